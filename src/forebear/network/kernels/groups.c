/* 3x3 convolutions of stride 1 in groups of 4 or 8 channels, over channels-last maps of bfloat16.

   A product has no room in so small a group, so the channels lie side by side: a vector of 16 sums
   holds the channels given out of several groups, and each of them meets the pairs of channels read
   by its own group. Channels are multiples of 32, as many given out as read. */

#include "common.h"

#include <string.h>

#define WIDE 7 /* values given out side by side, over which weights are read once */

typedef uint16_t half;

struct groups {
    struct pool pool;
    int32_t threads, size; /* size: channels of a group, 4 or 8 */
    int64_t count, height, width, channels; /* of x */
    int64_t top, left;                      /* zeros before x */
    int64_t out_height, out_width;
    const half *x;
    const half *weight; /* [channels / 32, 9, size / 2, 2, 16, 2]: the last are a pair's */
    half *y;            /* what groups_map gives */
    const half *dy;     /* of y */
    float *sums;        /* what groups_weight gives: [threads, channels / 16, 9, size, 16] of zeros */
    const half *zeros;  /* [channels] */
};

#if !defined __AVX512BF16__ || !defined __AVX512BW__

int32_t groups_here(void) { return 0; }
void groups_map(struct groups *g) { (void)g; }
void groups_weight(struct groups *g) { (void)g; }

#else

int32_t groups_here(void) { return 1; }

INLINE __m512i load(const void *place) { return _mm512_loadu_si512(place); }

INLINE __m512 add(__m512 sums, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sums, (__m512bh)a, (__m512bh)b);
}

/* Pixel of x, or zeros beside it. */
INLINE const half *pixel(const struct groups *g, int64_t image, int64_t row, int64_t column) {
    int inside = row >= 0 && row < g->height && column >= 0 && column < g->width;
    return inside ? g->x + ((image * g->height + row) * g->width + column) * g->channels : g->zeros;
}

/* WIDE values given out, from column on, of 32 channels from c on. */
INLINE void map_part(const struct groups *g, const half *const from[3][WIDE + 2], int64_t c, int pairs,
                     __m512 sums[WIDE][2]) {
    const half *weight = g->weight + c * 9 * pairs * 2;
    __m512i own[4][2]; /* which pair each sum meets */
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i group = pairs == 2 ? _mm512_srli_epi32(lane, 2) : _mm512_srli_epi32(lane, 3);
    for (int p = 0; p < pairs; p++)
        for (int s = 0; s < 2; s++)
            own[p][s] = pairs == 2
                ? _mm512_add_epi32(_mm512_slli_epi32(group, 1), _mm512_set1_epi32(8 * s + p))
                : _mm512_add_epi32(_mm512_slli_epi32(group, 2), _mm512_set1_epi32(8 * s + p));
    for (int j = 0; j < WIDE; j++) sums[j][0] = sums[j][1] = _mm512_setzero_ps();
    for (int row = 0; row < 3; row++, weight += 3 * pairs * 2 * 32) {
#pragma GCC unroll 9
        for (int x = 0; x < WIDE + 2; x++) {
            __m512i read = load(from[row][x] + c);
#pragma GCC unroll 4
            for (int p = 0; p < pairs; p++)
#pragma GCC unroll 2
                for (int s = 0; s < 2; s++) {
                    __m512i met = _mm512_permutexvar_epi32(own[p][s], read);
#pragma GCC unroll 3
                    for (int tap = 0; tap < 3; tap++) {
                        int j = x - tap;
                        if (j < 0 || j >= WIDE) continue;
                        sums[j][s] = add(sums[j][s], met, load(weight + ((tap * pairs + p) * 2 + s) * 32));
                    }
                }
        }
    }
}

INLINE void map_row(const struct groups *g, int64_t number, int pairs) {
    int64_t image = number / g->out_height, row = number % g->out_height;
    for (int64_t column = 0; column < g->out_width; column += WIDE) {
        const half *from[3][WIDE + 2];
        for (int i = 0; i < 3 * (WIDE + 2); i++)
            from[i / (WIDE + 2)][i % (WIDE + 2)] = pixel(
                g, image, row - g->top + i / (WIDE + 2), column - g->left + i % (WIDE + 2));
        int64_t wide = least(WIDE, g->out_width - column);
        half *to = g->y + (number * g->out_width + column) * g->channels;
        for (int64_t c = 0; c < g->channels; c += 32) {
            __m512 sums[WIDE][2];
            map_part(g, from, c, pairs, sums);
            for (int64_t j = 0; j < wide; j++)
                _mm512_storeu_si512(to + j * g->channels + c,
                                    (__m512i)_mm512_cvtne2ps_pbh(sums[j][1], sums[j][0]));
        }
    }
}

static void map_job(void *job) {
    const struct groups g = *(const struct groups *)job;
    int64_t rows = g.count * g.out_height, thread = g.pool.thread(), threads = g.pool.threads();
    for (int64_t i = rows * thread / threads; i < rows * (thread + 1) / threads; i++)
        if (g.size == 4) map_row(&g, i, 2);
        else map_row(&g, i, 4);
}

/* 16 channels of two pixels as pairs. */
INLINE __m512i pair_up(const half *pixel, const half *next) {
    const __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8,
                                           39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    __m512i a = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)pixel));
    return _mm512_permutex2var_epi16(a, order, _mm512_castsi256_si512(_mm256_loadu_si256((const void *)next)));
}

/* Adds one row of dy, of 16 channels, to the sums of three taps: [3, size, 16]. */
INLINE void weight_part(const half *const *from, const half *const *given, int64_t wide, int64_t c,
                        int size, float *to) {
    __m512 sums[3][8];
    __m512i own[8]; /* which channel of its group each sum meets */
    for (int i = 0; i < size; i++) {
        const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        own[i] = _mm512_or_epi32(_mm512_andnot_epi32(_mm512_set1_epi32(size - 1), lane), _mm512_set1_epi32(i));
    }
#pragma GCC unroll 3
    for (int tap = 0; tap < 3; tap++)
#pragma GCC unroll 8
        for (int i = 0; i < size; i++) sums[tap][i] = _mm512_loadu_ps(to + (tap * size + i) * 16);
    for (int64_t column = 0; column < wide; column += 2) {
        __m512i dy = pair_up(given[column] + c, given[column + 1] + c);
#pragma GCC unroll 3
        for (int tap = 0; tap < 3; tap++) {
            __m512i x = pair_up(from[column + tap] + c, from[column + tap + 1] + c);
#pragma GCC unroll 8
            for (int i = 0; i < size; i++)
                sums[tap][i] = add(sums[tap][i], dy, _mm512_permutexvar_epi32(own[i], x));
        }
    }
#pragma GCC unroll 3
    for (int tap = 0; tap < 3; tap++)
#pragma GCC unroll 8
        for (int i = 0; i < size; i++) _mm512_storeu_ps(to + (tap * size + i) * 16, sums[tap][i]);
}

static void weight_job(void *job) {
    const struct groups g = *(const struct groups *)job;
    int64_t rows = g.count * g.out_height, thread = g.pool.thread(), threads = g.pool.threads();
    int64_t wide = (g.out_width + 1) / 2 * 2;
    const half **from = malloc((4 * wide + 9) * sizeof *from), **given = from + 3 * (wide + 3);
    if (!from) abort();
    for (int64_t number = rows * thread / threads; number < rows * (thread + 1) / threads; number++) {
        int64_t image = number / g.out_height, row = number % g.out_height;
        for (int64_t i = 0; i < 3 * (wide + 3); i++)
            from[i] = pixel(&g, image, row - g.top + i / (wide + 3), i % (wide + 3) - g.left);
        for (int64_t i = 0; i < wide; i++)
            given[i] = i < g.out_width ? g.dy + (number * g.out_width + i) * g.channels : g.zeros;
        for (int64_t c = 0; c < g.channels; c += 16)
            for (int tap = 0; tap < 3; tap++) {
                float *to = g.sums + ((thread * g.channels + c) * 9 + tap * 3 * 16) * g.size;
                if (g.size == 4) weight_part(from + tap * (wide + 3), given, wide, c, 4, to);
                else weight_part(from + tap * (wide + 3), given, wide, c, 8, to);
            }
    }
    free(from);
}

void groups_map(struct groups *g) { g->pool.parallel(map_job, g, g->threads, 0); }

void groups_weight(struct groups *g) { g->pool.parallel(weight_job, g, g->threads, 0); }

#endif
