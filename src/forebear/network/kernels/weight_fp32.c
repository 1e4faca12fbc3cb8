/* The weight gradient of a convolution over channels-last maps of float32, of any kernel and stride:
   for each position of the kernel, the matrix product of the output's gradient and of the input
   values that it saw. The output's places are processed in blocks, so that both factors stay in a
   core's caches. The channels of x are a multiple of COLUMNS, those of y of WIDE. */

#include "fp32.h"

#define BLOCK_BYTES (1 << 18) /* of the output's gradient in a block */
#define LEAST_PLACES 64
#define MOST_PLACES 256

struct convolution {
    struct pool pool;
    int32_t threads, kernel, stride;
    int64_t count, height, width, channels; /* of x */
    int64_t top, left;                      /* zero padding before x */
    int64_t out_height, out_width, out_channels;
    const float *x, *dy;
    float *dweight; /* [out_channels, kernel, kernel, channels]: the result */
    char *space;    /* the workspace of weight_fp32_space bytes */
};

struct plan {
    int64_t taps, all, block;  /* positions of the kernel; places of the output; places in a block */
    int64_t x, g, du;          /* parts of the workspace, in values */
};

static struct plan plan_of(const struct convolution *w) {
    struct plan p;
    p.taps = w->kernel * w->kernel;
    p.all = w->count * w->out_height * w->out_width;
    p.block = most(least(BLOCK_BYTES / (4 * w->out_channels), MOST_PLACES), LEAST_PLACES);
    p.x = p.taps * w->channels * p.block;
    p.g = w->out_channels * p.block;
    p.du = p.taps * w->channels * w->out_channels;
    return p;
}

EXPORTED int64_t NAMED(weight_fp32_space)(const struct convolution *w) {
    struct plan p = plan_of(w);
    return 4 * (p.x + p.g + p.du) + 4 * PAGE;
}

/* Copies what a place of the output saw, [taps, channels / COLUMNS, places, COLUMNS], and its
   gradient in panels of BACK_ROWS. */
INLINE void copy(const struct convolution *w, const struct plan *p, int64_t number, int64_t place,
                 float *x, float *g) {
    int64_t column = number % w->out_width, rest = number / w->out_width;
    int64_t row = rest % w->out_height, image = rest / w->out_height;
    const float *map = w->x + image * w->height * w->width * w->channels;
    for (int64_t tap = 0; tap < p->taps; tap++) {
        int64_t i = row * w->stride - w->top + tap / w->kernel;
        int64_t j = column * w->stride - w->left + tap % w->kernel;
        int inside = i >= 0 && i < w->height && j >= 0 && j < w->width;
        const float *from = map + (i * w->width + j) * w->channels;
        float *to = x + (tap * w->channels * p->block) + place * COLUMNS;
        for (int64_t c = 0; c < w->channels; c += COLUMNS, to += p->block * COLUMNS) {
            store(to, inside ? load(from + c) : (vec){0});
            store(to + WIDE, inside ? load(from + c + WIDE) : (vec){0});
        }
    }
    const float *from = w->dy + number * w->out_channels;
    for (int64_t c = 0; c < w->out_channels; c += WIDE) {
        float *to = g + c * p->block + place * BACK_ROWS;
        store_halves(to, to + BACK_ROWS * p->block, load(from + c));
    }
}

static void weight_job(void *job) {
    struct convolution *w = job;
    const struct plan p = plan_of(w);
    int thread = w->pool.thread(), threads = w->pool.threads();
    int64_t in = w->channels, out = w->out_channels, panels = p.taps * (in / COLUMNS);
    int64_t begin = panels * thread / threads, end = panels * (thread + 1) / threads;
    float *x = (float *)on_page(w->space), *g = (float *)on_page((char *)(x + p.x));
    float *du = (float *)on_page((char *)(g + p.g)); /* [taps, in / COLUMNS, out, COLUMNS] */
    memset(du + begin * out * COLUMNS, 0, (end - begin) * out * COLUMNS * sizeof *du);
    for (int64_t first = 0; first < p.all; first += p.block) {
        int64_t places = least(p.block, p.all - first);
        for (int64_t i = places * thread / threads; i < places * (thread + 1) / threads; i++)
            copy(w, &p, first + i, i, x, g);
        w->pool.barrier();
        for (int64_t i = begin; i < end; i++)
            for (int64_t row = 0; row < out; row += BACK_ROWS)
                multiply_back(g + row * p.block, x + i * p.block * COLUMNS, places,
                              du + (i * out + row) * COLUMNS);
        w->pool.barrier();
    }
    for (int64_t i = begin; i < end; i++) {
        int64_t tap = i / (in / COLUMNS), c = i % (in / COLUMNS) * COLUMNS;
        for (int64_t row = 0; row < out; row++) {
            float *to = w->dweight + (row * p.taps + tap) * in + c;
            const float *from = du + (i * out + row) * COLUMNS;
            store(to, load(from));
            store(to + WIDE, load(from + WIDE));
        }
    }
}

EXPORTED void NAMED(weight_fp32)(struct convolution *w) {
    w->pool.parallel(weight_job, w, w->threads, 0);
}
