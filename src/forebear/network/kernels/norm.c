/* Batch norm in training, fused with the following addition and activation, over channels-last
   maps.

   A map of [N, C, H, W] in channels_last consists of rows = N * H * W rows of C contiguous values.
   torch traverses it four times in the forward pass (moments, normalise, add, activate) and more
   often in the backward pass. These functions traverse it twice in each pass. C must be a multiple
   of 16. The code is plain C with the vector extensions that both gcc and clang support. */

#include "common.h"

#include <math.h>

#define LINE 256   /* the target for the number of values in a line; see struct part */
#define BLOCK 4    /* lines that are processed together and read tables and sums only once */
#ifndef AHEAD
#define AHEAD 4096
#endif
#define CHUNK 128  /* lines that are summed in float before the sums are added to those in double */

enum { NONE, RELU, HARDSWISH }; /* activations */

struct norm {
    struct pool pool;
    int32_t threads, half, activation, biased; /* half: maps hold bfloat16, otherwise float */
    int64_t rows, channels;
    const void *x;     /* the input */
    const void *added; /* forward: added before the activation, or NULL; NULL with hardswish */
    void *y;           /* forward: the result; backward: the same, or NULL if nothing was added */
    const float *weight, *bias;
    float *mean, *scale; /* of each channel; scale: 1 / sqrt(variance + eps) */
    float *running_mean, *running_var; /* updated by the forward pass */
    double eps, momentum;
    const void *dy; /* backward: the gradient of y */
    void *dx, *dadded;
    float *dweight, *dbias;
    double *sums; /* work space: [threads, 2, channels] */
};

/* Part of several lines: the values at, at + 1, ..., at + count - 1 of the first line, and those in
   the same columns of the next lines. */
struct block {
    int64_t at, count, lines;
};

#ifdef __AVX512F__ /* the same as below, in one or two instructions */
INLINE lanes where_positive(lanes test, lanes values) {
    __mmask16 positive = _mm512_cmp_ps_mask((__m512)test, _mm512_setzero_ps(), _CMP_GT_OQ);
    return (lanes)_mm512_maskz_mov_ps(positive, (__m512)values);
}

INLINE lanes rectified(lanes values) { /* NaN stays: max returns its second operand then */
    return (lanes)_mm512_max_ps(_mm512_setzero_ps(), (__m512)values);
}

INLINE lanes capped(lanes values) {
    return (lanes)_mm512_min_ps(_mm512_set1_ps(1), (__m512)values);
}
#else
INLINE lanes where_positive(lanes test, lanes values) {
    return (lanes)((words)values & (words)(test > 0));
}

INLINE lanes rectified(lanes values) { /* NaN stays */
    return (lanes)((words)values & ~(words)(values < 0));
}

INLINE lanes capped(lanes values) {
    words above = (words)(values > 1);
    return (lanes)(((words)values & ~above) | ((words)((lanes){0} + 1) & above));
}
#endif

/* Returns activation(y). hardswish(y) = y * min(max(y / 6 + 1/2, 0), 1): Howard et al. 2019 (arXiv
   1905.02244). */
INLINE lanes activated(lanes y, int activation) {
    if (activation == RELU) return rectified(y);
    if (activation == HARDSWISH) return y * capped(rectified(y * (1 / 6.0f) + 0.5f));
    return y;
}

/* Returns the gradient of y, given the gradient g of activation(y). As in torch, the derivative of
   hardswish is 0 at -3 and below, and 1 at 3 and above. */
INLINE lanes derived(lanes g, lanes y, int activation) {
    if (activation == RELU) return where_positive(y, g);
    if (activation == HARDSWISH) {
        lanes slope = where_positive(3 - y, y * (1 / 3.0f) - 0.5f) + 1; /* 1 from 3 on */
        return g * where_positive(y + 3, slope);
    }
    return g;
}

/* Prefetches what the next blocks will read, in the order of the addresses. The hardware prefetcher
   does not recognise the pattern of several lines that are processed together. */
INLINE void ask(const void *map, struct block b, int64_t i, int half) {
    const char *next = (const char *)map + (b.at + i * b.lines) * (half ? 2 : 4) + AHEAD;
    for (int64_t r = 0; r < b.lines; r += 1 + half) __builtin_prefetch(next + r * (half ? 32 : 64));
}

INLINE lanes of(const float *values, int64_t at) { return *(const floats *)(values + at); }

/* One thread's part of the work: the values [first, end) of the maps, processed line by line. A
   line is one row, or several rows if there are few channels. Each table repeats the channels for
   every row of a line. */
struct part {
    int64_t first, end, line;
    float *mean, *slope, *bias, *shift, *turn; /* tables */
    float *sum, *product;
};

/* y = (x - mean) * slope + bias. */
static int prepare(const struct norm *n, struct part *p) {
    int thread = n->pool.thread(), threads = n->pool.threads();
    p->first = n->rows * thread / threads * n->channels;
    p->end = n->rows * (thread + 1) / threads * n->channels;
    p->line = n->channels * (n->channels < LINE ? LINE / n->channels : 1);
    float *tables = calloc(7 * p->line, sizeof *tables);
    float **names[] = {&p->mean, &p->slope, &p->bias, &p->shift, &p->turn, &p->sum, &p->product};
    for (int i = 0; i < 7; i++) *names[i] = tables + i * p->line;
    return tables != NULL;
}

static float first_row(const struct norm *n, int64_t c) {
    union { uint32_t bits; float value; } as;
    if (!n->half) return ((const float *)n->x)[c];
    as.bits = (uint32_t)((const uint16_t *)n->x)[c] << 16;
    return as.value;
}

static void tabulate(const struct norm *n, struct part *p, int backwards) {
    float each = 1.0f / (float)n->rows;
    for (int64_t i = 0; i < p->line; i++) {
        int64_t c = i % n->channels;
        p->mean[i] = n->mean[c];
        p->slope[i] = n->weight[c] * n->scale[c];
        p->bias[i] = n->bias[c];
        if (!backwards) continue;
        p->shift[i] = n->dbias[c] * each;
        p->turn[i] = n->dweight[c] * n->scale[c] * each;
    }
}

/* Adds up x - mean and its square, where the mean is the first row. This shift avoids cancellation
   in the variance if the mean is large compared with the standard deviation. */
INLINE void add_moments(const struct norm *n, const struct part *p, struct block b, int half) {
    for (int64_t i = 0; i < b.count; i += LANES) {
        lanes mean = of(p->mean, i), sum = of(p->sum, i), square = of(p->product, i);
        ask(n->x, b, i, half);
        for (int64_t r = 0, place = b.at + i; r < b.lines; r++, place += p->line) {
            lanes v = get(n->x, place, half) - mean;
            sum += v;
            square += v * v;
        }
        *(floats *)(p->sum + i) = sum;
        *(floats *)(p->product + i) = square;
    }
}

/* Adds up g and g * (x - mean), where g is the gradient of the activation's input. */
INLINE void add_products(const struct norm *n, const struct part *p, struct block b, int half,
                         int activation, int added) {
    for (int64_t i = 0; i < b.count; i += LANES) {
        lanes mean = of(p->mean, i), slope = of(p->slope, i), bias = of(p->bias, i);
        lanes sum = of(p->sum, i), product = of(p->product, i);
        ask(n->x, b, i, half);
        ask(n->dy, b, i, half);
        if (activation && added) ask(n->y, b, i, half);
        for (int64_t r = 0, place = b.at + i; r < b.lines; r++, place += p->line) {
            lanes g = get(n->dy, place, half), v = get(n->x, place, half) - mean;
            if (activation && added) g = where_positive(get(n->y, place, half), g);
            if (activation && added) put(n->dadded, place, g, half);
            if (!added) g = derived(g, v * slope + bias, activation);
            sum += g;
            product += g * v;
        }
        *(floats *)(p->sum + i) = sum;
        *(floats *)(p->product + i) = product;
    }
}

INLINE void normalise(const struct norm *n, const struct part *p, struct block b, int half,
                      int activation, int added) {
    for (int64_t i = 0; i < b.count; i += LANES) {
        lanes mean = of(p->mean, i), slope = of(p->slope, i), bias = of(p->bias, i);
        ask(n->x, b, i, half);
        if (added) ask(n->added, b, i, half);
        for (int64_t r = 0, place = b.at + i; r < b.lines; r++, place += p->line) {
            lanes y = (get(n->x, place, half) - mean) * slope + bias;
            if (added) y += get(n->added, place, half);
            put(n->y, place, activated(y, activation), half);
        }
    }
}

INLINE void derive(const struct norm *n, const struct part *p, struct block b, int half,
                   int activation, int added) {
    const void *gradient = activation && added ? n->dadded : n->dy;
    for (int64_t i = 0; i < b.count; i += LANES) {
        lanes mean = of(p->mean, i), slope = of(p->slope, i), bias = of(p->bias, i);
        lanes shift = of(p->shift, i), turn = of(p->turn, i);
        ask(n->x, b, i, half);
        ask(gradient, b, i, half);
        for (int64_t r = 0, place = b.at + i; r < b.lines; r++, place += p->line) {
            lanes g = get(gradient, place, half), v = get(n->x, place, half) - mean;
            if (!added) g = derived(g, v * slope + bias, activation);
            put(n->dx, place, (g - shift - v * turn) * slope, half);
        }
    }
}

/* Calls a pass for every block of a chunk: first for BLOCK lines at a time, then for single lines,
   then for the rest of a line. */
#define BLOCKS(p, begin, CALL)                                                            \
    do {                                                                                  \
        int64_t at = (begin), line = (p).line, stop = at + CHUNK * line;                  \
        if (stop > (p).end) stop = (p).end;                                               \
        for (; at + BLOCK * line <= stop; at += BLOCK * line) CALL(at, line, BLOCK);      \
        for (; at + line <= stop; at += line) CALL(at, line, 1);                          \
        if (at < stop) CALL(at, stop - at, 1);                                            \
    } while (0)

/* Adds the float sums of a chunk to the double sums of the thread, and resets them to zero. */
static void gather(const struct norm *n, const struct part *p) {
    double *total = n->sums + 2 * n->channels * n->pool.thread();
    for (int64_t i = 0; i < p->line; i += n->channels)
        for (int64_t c = 0; c < n->channels; c++) {
            total[c] += p->sum[i + c];
            total[n->channels + c] += p->product[i + c];
            p->sum[i + c] = p->product[i + c] = 0;
        }
}

/* Runs one pass for the sums and one for the results. The second pass goes backwards, because the
   first one leaves the last chunks in the caches. Each barrier ensures that all threads have
   written what other threads read next. */
#define TWO_PASSES(n, job, p, SUMS, settle, RESULTS, backwards)                      \
    do {                                                                             \
        int64_t chunk = CHUNK * (p).line, begin = (p).first;                         \
        for (; begin < (p).end; begin += chunk) {                                    \
            BLOCKS(p, begin, SUMS);                                                   \
            gather(job, &(p));                                                       \
        }                                                                            \
        (n).pool.barrier();                                                          \
        settle(job);                                                                 \
        (n).pool.barrier();                                                          \
        tabulate(job, &(p), backwards);                                              \
        for (begin -= chunk; begin >= (p).first; begin -= chunk) BLOCKS(p, begin, RESULTS); \
    } while (0)

static double total(const struct norm *n, int64_t at) {
    double sum = 0;
    for (int t = 0; t < n->pool.threads(); t++) sum += n->sums[2 * n->channels * t + at];
    return sum;
}

static void settle_forward(const struct norm *n) {
    double rows = (double)n->rows, kept = 1 - n->momentum;
    for (int64_t c = n->pool.thread(); c < n->channels; c += n->pool.threads()) {
        double shift = total(n, c) / rows;
        double variance = total(n, n->channels + c) / rows - shift * shift;
        double mean = first_row(n, c) + shift;
        if (variance < 0) variance = 0;
        n->mean[c] = (float)mean;
        n->scale[c] = (float)(1 / sqrt(variance + n->eps));
        if (!n->running_mean) continue;
        if (!n->biased) variance *= rows / (rows - 1);
        n->running_mean[c] = (float)(kept * n->running_mean[c] + n->momentum * mean);
        n->running_var[c] = (float)(kept * n->running_var[c] + n->momentum * variance);
    }
}

static void settle_backward(const struct norm *n) {
    for (int64_t c = n->pool.thread(); c < n->channels; c += n->pool.threads()) {
        n->dbias[c] = (float)total(n, c);
        n->dweight[c] = (float)(total(n, n->channels + c) * n->scale[c]);
    }
}

INLINE void forward(const struct norm *job, int half, int activation, int added) {
    const struct norm n = *job; /* a local copy, so that stores to a map cannot alias it */
    struct part p;
    prepare(job, &p);
    for (int64_t i = 0; i < p.line; i++) p.mean[i] = first_row(job, i % n.channels);
#define MOMENTS(at, count, lines) add_moments(&n, &p, (struct block){at, count, lines}, half)
#define NORMALISE(at, count, lines) normalise(&n, &p, (struct block){at, count, lines}, half, activation, added)
    TWO_PASSES(n, job, p, MOMENTS, settle_forward, NORMALISE, 0);
    free(p.mean);
}

INLINE void backward(const struct norm *job, int half, int activation, int added) {
    const struct norm n = *job;
    struct part p;
    prepare(job, &p);
    tabulate(job, &p, 0);
#define PRODUCTS(at, count, lines) add_products(&n, &p, (struct block){at, count, lines}, half, activation, added)
#define DERIVE(at, count, lines) derive(&n, &p, (struct block){at, count, lines}, half, activation, added)
    TWO_PASSES(n, job, p, PRODUCTS, settle_backward, DERIVE, 1);
    free(p.mean);
}

/* Instantiates a pass for each combination of dtype, activation and addition, so that no loop tests
   for them. */
#define KINDS(pass, n, added)                                       \
    do {                                                            \
        switch ((n)->half * 6 + (n)->activation * 2 + (added)) {    \
        case 0: pass(n, 0, NONE, 0); break;                         \
        case 1: pass(n, 0, NONE, 1); break;                         \
        case 2: pass(n, 0, RELU, 0); break;                         \
        case 3: pass(n, 0, RELU, 1); break;                         \
        case 4: pass(n, 0, HARDSWISH, 0); break;                    \
        case 6: pass(n, 1, NONE, 0); break;                         \
        case 7: pass(n, 1, NONE, 1); break;                         \
        case 8: pass(n, 1, RELU, 0); break;                         \
        case 9: pass(n, 1, RELU, 1); break;                         \
        case 10: pass(n, 1, HARDSWISH, 0); break;                   \
        }                                                           \
    } while (0)

static void forward_job(void *job) {
    const struct norm *n = job;
    KINDS(forward, n, n->added != NULL);
}

static void backward_job(void *job) {
    const struct norm *n = job;
    KINDS(backward, n, n->dadded != NULL);
}

EXPORTED void NAMED(norm_forward)(struct norm *n) { n->pool.parallel(forward_job, n, n->threads, 0); }

EXPORTED void NAMED(norm_backward)(struct norm *n) { n->pool.parallel(backward_job, n, n->threads, 0); }
