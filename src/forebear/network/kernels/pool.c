/* Max pools in training over channels-last maps.

   torch stores the position of each maximum as an int64, which is four times the size of the
   maximum in bfloat16. Its backward pass fills the gradient with zeros and then adds to some of its
   values. Here, a position is one byte: the index of the tap in the window. The backward pass finds
   for each value the windows in which it was the maximum, and writes each gradient value once.
   Padding is never a maximum. C must be a multiple of 16. */

#include "common.h"

#define TAPS 49 /* the maximum number of values in a window */

typedef uint8_t bytes __attribute__((vector_size(16), aligned(1), may_alias));

struct max_pool {
    struct pool pool;
    int32_t threads, half; /* half: maps hold bfloat16, otherwise float */
    int64_t count, height, width, channels; /* of x */
    int64_t kernel, stride, top, left;      /* top, left: rows and columns of padding before x */
    int64_t out_height, out_width;
    const void *x;
    void *y;
    uint8_t *which; /* the tap of each maximum; the first one if several are equal */
    const void *dy;
    void *dx;
};

#ifdef __AVX512F__
INLINE void take_greater(lanes *best, words *place, lanes value, uint32_t tap) {
    __m512 a = (__m512)value, b = (__m512)*best;
    __mmask16 greater = _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) | _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    *best = (lanes)_mm512_mask_mov_ps(b, greater, a);
    *place = (words)_mm512_mask_set1_epi32((__m512i)*place, greater, (int)tap);
}

INLINE lanes where_equal(bytes places, uint32_t tap, lanes values) {
    __mmask16 equal = _mm512_cmpeq_epi32_mask(_mm512_cvtepu8_epi32((__m128i)places),
                                              _mm512_set1_epi32((int)tap));
    return (lanes)_mm512_maskz_mov_ps(equal, (__m512)values);
}
#else
INLINE void take_greater(lanes *best, words *place, lanes value, uint32_t tap) {
    words greater = (words)(value > *best) | (words)(value != value); /* NaN wins, as in torch */
    *best = (lanes)(((words)value & greater) | ((words)*best & ~greater));
    *place = (tap & greater) | (*place & ~greater);
}

INLINE lanes where_equal(bytes places, uint32_t tap, lanes values) {
    return (lanes)((words)values & (words)(__builtin_convertvector(places, words) == tap));
}
#endif

INLINE void pool_one(const struct max_pool *p, int64_t number, int half) {
    int64_t row = number / p->out_width % p->out_height * p->stride - p->top;
    int64_t column = number % p->out_width * p->stride - p->left;
    int64_t image = number / p->out_width / p->out_height, taps = 0;
    struct { int64_t place; uint32_t tap; } seen[TAPS];
    for (int64_t i = 0; i < p->kernel * p->kernel; i++) {
        int64_t y = row + i / p->kernel, x = column + i % p->kernel;
        if (y < 0 || y >= p->height || x < 0 || x >= p->width) continue;
        seen[taps].place = ((image * p->height + y) * p->width + x) * p->channels;
        seen[taps++].tap = (uint32_t)i;
    }
    for (int64_t c = 0; c < p->channels; c += LANES) {
        lanes best = get(p->x, seen[0].place + c, half);
        words place = seen[0].tap + (words){0};
        for (int64_t i = 1; i < taps; i++)
            take_greater(&best, &place, get(p->x, seen[i].place + c, half), seen[i].tap);
        put(p->y, number * p->channels + c, best, half);
        *(bytes *)(p->which + number * p->channels + c) = __builtin_convertvector(place, bytes);
    }
}

INLINE void unpool_one(const struct max_pool *p, int64_t number, int half) {
    int64_t row = number / p->width % p->height + p->top, column = number % p->width + p->left;
    int64_t image = number / p->width / p->height, taps = 0;
    struct { int64_t place; uint32_t tap; } seen[TAPS];
    int64_t y = most(0, (row - p->kernel) / p->stride + (row >= p->kernel));
    for (; y <= least(row / p->stride, p->out_height - 1); y++) {
        int64_t x = most(0, (column - p->kernel) / p->stride + (column >= p->kernel));
        for (; x <= least(column / p->stride, p->out_width - 1); x++) {
            seen[taps].place = ((image * p->out_height + y) * p->out_width + x) * p->channels;
            seen[taps++].tap = (uint32_t)((row - y * p->stride) * p->kernel + column - x * p->stride);
        }
    }
    for (int64_t c = 0; c < p->channels; c += LANES) {
        lanes sum = {0};
        for (int64_t i = 0; i < taps; i++)
            sum += where_equal(*(const bytes *)(p->which + seen[i].place + c), seen[i].tap,
                               get(p->dy, seen[i].place + c, half));
        put(p->dx, number * p->channels + c, sum, half);
    }
}

/* Calls CALL for this thread's part of all pixels. */
#define PART(p, pixels, CALL)                                                      \
    do {                                                                           \
        int64_t thread = (p).pool.thread(), threads = (p).pool.threads();          \
        int64_t i = (pixels) * thread / threads, end = (pixels) * (thread + 1) / threads; \
        for (; i < end; i++) CALL;                                                 \
    } while (0)

static void pool_job(void *job) {
    const struct max_pool p = *(const struct max_pool *)job;
    int64_t pixels = p.count * p.out_height * p.out_width;
    if (p.half) PART(p, pixels, pool_one(&p, i, 1));
    else PART(p, pixels, pool_one(&p, i, 0));
}

static void unpool_job(void *job) {
    const struct max_pool p = *(const struct max_pool *)job;
    int64_t pixels = p.count * p.height * p.width;
    if (p.half) PART(p, pixels, unpool_one(&p, i, 1));
    else PART(p, pixels, unpool_one(&p, i, 0));
}

EXPORTED void NAMED(pool_forward)(struct max_pool *p) { p->pool.parallel(pool_job, p, p->threads, 0); }

EXPORTED void NAMED(pool_backward)(struct max_pool *p) { p->pool.parallel(unpool_job, p, p->threads, 0); }
