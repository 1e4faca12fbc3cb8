/* Batch norm in training, with the addition and the activation that follow it, over channels-last maps.

   A map of [N, C, H, W] in channels_last is rows = N * H * W rows of C neighbouring values. torch
   goes over it four times on the way up (moments, normalise, add, activate) and more on the way down;
   these functions go over it twice each way. C must be a multiple of 16. Plain C with the vector
   extensions that gcc and clang share. */

#include "common.h"

#include <math.h>

#define LINE 256   /* values, at least, of a line; see struct part */
#define BLOCK 4    /* lines gone over side by side, so that their tables and sums are read once */
#ifndef AHEAD
#define AHEAD 4096
#endif
#define CHUNK 128  /* values summed in float before the sums move on to double */

enum { NONE, RELU, HARDSWISH }; /* activations */

struct norm {
    struct pool pool;
    int32_t threads, half, activation, biased; /* half: maps hold bfloat16, else float */
    int64_t rows, channels;
    const void *x;     /* what is normalised */
    const void *added; /* forward: added before the activation, or NULL; not before hardswish */
    void *y;           /* forward: the result; backward: the same, or NULL where nothing was added */
    const float *weight, *bias;
    float *mean, *scale; /* of each channel; scale: 1 / sqrt(variance + eps) */
    float *running_mean, *running_var; /* moved by the forward pass */
    double eps, momentum;
    const void *dy; /* backward: the gradient of y */
    void *dx, *dadded;
    float *dweight, *dbias;
    double *sums; /* work space: [threads, 2, channels] */
};

/* Values at, at + 1, ... of so many lines: count from each. */
struct block {
    int64_t at, count, lines;
};

#ifdef __AVX512F__ /* what the vector extensions say below, in one or two instructions */
INLINE lanes where_positive(lanes test, lanes values) {
    __mmask16 positive = _mm512_cmp_ps_mask((__m512)test, _mm512_setzero_ps(), _CMP_GT_OQ);
    return (lanes)_mm512_maskz_mov_ps(positive, (__m512)values);
}

INLINE lanes rectified(lanes values) { /* the second operand where one is NaN */
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

/* y, activated. hardswish: y * min(max(y / 6 + 1/2, 0), 1), Howard et al. 2019 (arXiv 1905.02244). */
INLINE lanes activated(lanes y, int activation) {
    if (activation == RELU) return rectified(y);
    if (activation == HARDSWISH) return y * capped(rectified(y * (1 / 6.0f) + 0.5f));
    return y;
}

/* The gradient of y, whose value is given, from that of what y is activated to. torch's has 0 at -3
   and below, 1 at 3 and above. */
INLINE lanes derived(lanes g, lanes y, int activation) {
    if (activation == RELU) return where_positive(y, g);
    if (activation == HARDSWISH) {
        lanes slope = where_positive(3 - y, y * (1 / 3.0f) - 0.5f) + 1; /* 1 from 3 on */
        return g * where_positive(y + 3, slope);
    }
    return g;
}

/* Asks for what the next blocks will read, in the order of the addresses: the processor's own
   prefetcher does not see through lines side by side. */
INLINE void ask(const void *map, struct block b, int64_t i, int half) {
    const char *next = (const char *)map + (b.at + i * b.lines) * (half ? 2 : 4) + AHEAD;
    for (int64_t r = 0; r < b.lines; r += 1 + half) __builtin_prefetch(next + r * (half ? 32 : 64));
}

INLINE lanes of(const float *values, int64_t at) { return *(const floats *)(values + at); }

/* One thread's part of the work: values [first, end) of the maps, gone over a line at a time. A line
   is one row or, of few channels, several, and every table holds the channels as often as it does. */
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

/* Sums of x - mean and of its square, the mean being that of the first row: a shift that keeps the
   difference of the moments from cancelling where the mean is large beside the deviation. */
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

/* Sums of g and of g * (x - mean), g being the gradient below the activation. */
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

/* Calls a pass for every block of a chunk: of BLOCK lines, then of one, then of what is left. */
#define BLOCKS(p, begin, CALL)                                                            \
    do {                                                                                  \
        int64_t at = (begin), line = (p).line, stop = at + CHUNK * line;                  \
        if (stop > (p).end) stop = (p).end;                                               \
        for (; at + BLOCK * line <= stop; at += BLOCK * line) CALL(at, line, BLOCK);      \
        for (; at + line <= stop; at += line) CALL(at, line, 1);                          \
        if (at < stop) CALL(at, stop - at, 1);                                            \
    } while (0)

/* Moves the sums of a chunk, in float, to those of the thread, and empties them. */
static void gather(const struct norm *n, const struct part *p) {
    double *total = n->sums + 2 * n->channels * n->pool.thread();
    for (int64_t i = 0; i < p->line; i += n->channels)
        for (int64_t c = 0; c < n->channels; c++) {
            total[c] += p->sum[i + c];
            total[n->channels + c] += p->product[i + c];
            p->sum[i + c] = p->product[i + c] = 0;
        }
}

/* One pass for sums, one for results; that goes backwards, as the first leaves the last chunks in the
   caches. The two barriers part what every thread must have written from what another reads. */
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
    const struct norm n = *job; /* where no store to a map can be thought to change it */
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

/* One copy of a pass for each kind of map, so that no loop asks what it works on. */
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
