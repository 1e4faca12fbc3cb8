/* 3x3 convolutions in groups of 4 to 32 channels, over channels-last maps of bfloat16.

   A group is too small for an efficient matrix product. Instead, a vector holds the sums of 16
   output channels, from several groups if these are small. Each sum is updated with the pairs of
   input channels of its own group. The numbers of input and output channels are equal, and a
   multiple of 32. */

#include "common.h"

#include <string.h>

#define WIDE 7              /* neighbouring output positions for which weights are read once */
#define READ (2 * WIDE + 1) /* the maximum number of input positions that these need in a row */
#define PACKED 192          /* pairs that groups_weight packs at once, so that they fit in L1 */

typedef uint16_t half;

struct groups {
    struct pool pool;
    int32_t threads, size; /* size: channels of a group: 4, 8, 16 or 32 */
    int32_t step;          /* 1 or 2: the stride */
    int32_t holes;         /* 1 or 2: the distance between values of x, with zeros in between */
    int64_t count, height, width, channels; /* of x */
    int64_t top, left;                      /* zero padding before x */
    int64_t out_height, out_width;
    const half *x;
    const half *weight; /* [channels / 32, 9, size / 2, 2, 16, 2]; the last axis is a pair */
    half *y;            /* the result of groups_map */
    const half *dy;     /* the gradient of y */
    float *sums;        /* groups_weight adds to it: [threads, channels / 16, 9, size, 16] */
    const half *zeros;  /* [channels] */
    char *space;        /* [threads, groups_space] */
};

/* Returns how many output rows groups_weight packs at once. With several rows, the sums stay in
   registers for longer. */
static int64_t rows_at_once(const struct groups *g) {
    int64_t pairs = (g->out_width + 1) / 2;
    return most(1, PACKED / (pairs + 2 * g->step * pairs));
}

/* Returns the workspace in bytes that each thread of groups_weight needs. */
EXPORTED int64_t NAMED(groups_space)(const struct groups *g) {
    int64_t pairs = (g->out_width + 1) / 2, reads = 2 * g->step * (pairs - 1) + 3;
    int64_t places = 2 * pairs + 3 * (reads + g->step) + 1;
    int64_t row = places * (int64_t)sizeof(half *) + (pairs + reads) * most(g->size, 16) * 4;
    return rows_at_once(g) * row;
}

INLINE __m512i load(const void *place) { return _mm512_loadu_si512(place); }

/* Broadcasts a pair of values. */
INLINE __m512i spread(const void *pair) {
    int32_t word;
    memcpy(&word, pair, sizeof word);
    return _mm512_set1_epi32(word);
}

INLINE __m512 add(__m512 sums, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sums, (__m512bh)a, (__m512bh)b);
}

/* Returns the first channel of the group of each of 16 neighbouring sums. */
INLINE __m512i firsts(int size) {
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_and_epi32(lane, _mm512_set1_epi32(-size));
}

/* Returns the first value of a row of x with holes; NULL if the row is padding or a hole. */
INLINE const half *row_of(const struct groups *g, int64_t image, int64_t row, int holes) {
    if (row < 0 || row % holes || row / holes >= g->height) return NULL;
    return g->x + (image * g->height + row / holes) * g->width * g->channels;
}

/* Returns the channels at a column of such a row, or zeros for padding or a hole. */
INLINE const half *value(const struct groups *g, const half *row, int64_t column, int holes) {
    int inside = column >= 0 && column / holes < g->width;
    return inside ? row + column / holes * g->channels : g->zeros;
}

/* Computes WIDE neighbouring output positions of 32 channels, starting at c. With holes = 2, only
   the input positions x with x % 2 == odd have values; the others are holes. */
INLINE void map_part(const struct groups *g, const half *const from[3][READ], int64_t c, int size,
                     int step, int holes, int odd, __m512 sums[WIDE][2]) {
    const int pairs = size / 2, reads = step * (WIDE - 1) + 3;
    const half *weight = g->weight + c * 9 * size;
    for (int j = 0; j < WIDE; j++) sums[j][0] = sums[j][1] = _mm512_setzero_ps();
    for (int row = 0; row < 3; row++, weight += 3 * pairs * 2 * 32) {
        if (!from[row][0]) continue;
        __m512i read[READ];
#pragma GCC unroll 15
        for (int x = 0; x < reads; x++)
            read[x] = size <= 8 ? load(from[row][x] + c) : _mm512_setzero_si512();
        for (int p = 0; p < pairs; p++)
#pragma GCC unroll 2
            for (int s = 0; s < 2; s++) {
                const __m512i first = _mm512_srli_epi32(firsts(size), 1); /* pair of its group */
                const __m512i own = _mm512_add_epi32(first, _mm512_set1_epi32(8 * s + p));
                __m512i with[3];
#pragma GCC unroll 3
                for (int tap = 0; tap < 3; tap++)
                    with[tap] = load(weight + ((tap * pairs + p) * 2 + s) * 32);
#pragma GCC unroll 15
                for (int x = 0; x < reads; x++) {
                    if (holes == 2 && x % 2 != odd) continue;
                    __m512i met = size <= 8 ? _mm512_permutexvar_epi32(own, read[x])
                                            : spread(from[row][x] + c + 2 * p + (size == 16 ? 16 * s : 0));
#pragma GCC unroll 3
                    for (int tap = 0; tap < 3; tap++) {
                        int j = (x - tap) / step;
                        if (x < tap || (x - tap) % step || j >= WIDE) continue;
                        sums[j][s] = add(sums[j][s], met, with[tap]);
                    }
                }
            }
    }
}

INLINE void map_row(const struct groups *g, int64_t number, int size, int step, int holes) {
    int64_t image = number / g->out_height, row = number % g->out_height;
    for (int64_t column = 0; column < g->out_width; column += WIDE) {
        const half *from[3][READ];
        for (int i = 0; i < 3; i++) {
            const half *read = row_of(g, image, row * step - g->top + i, holes);
            from[i][0] = NULL;
            for (int j = 0; read && j < step * (WIDE - 1) + 3; j++)
                from[i][j] = value(g, read, column * step - g->left + j, holes);
        }
        int64_t wide = least(WIDE, g->out_width - column);
        half *to = g->y + (number * g->out_width + column) * g->channels;
        for (int64_t c = 0; c < g->channels; c += 32) {
            __m512 sums[WIDE][2];
            if (holes == 1) map_part(g, from, c, size, step, 1, 0, sums);
            else if ((column - g->left) % 2) map_part(g, from, c, size, 1, 2, 1, sums);
            else map_part(g, from, c, size, 1, 2, 0, sums);
            for (int64_t j = 0; j < wide; j++)
                _mm512_storeu_si512(to + j * g->channels + c,
                                    (__m512i)_mm512_cvtne2ps_pbh(sums[j][1], sums[j][0]));
        }
    }
}

INLINE void map_rows(const struct groups *g, int size, int step, int holes) {
    int64_t rows = g->count * g->out_height, thread = g->pool.thread(), threads = g->pool.threads();
    for (int64_t i = rows * thread / threads; i < rows * (thread + 1) / threads; i++)
        map_row(g, i, size, step, holes);
}

INLINE void map_rows_of(const struct groups *g, int size) {
    if (g->holes == 2) map_rows(g, size, 1, 2);
    else if (g->step == 2) map_rows(g, size, 2, 1);
    else map_rows(g, size, 1, 1);
}

static void map_job(void *job) {
    const struct groups g = *(const struct groups *)job;
    if (g.size == 4) map_rows_of(&g, 4);
    else if (g.size == 8) map_rows_of(&g, 8);
    else if (g.size == 16) map_rows_of(&g, 16);
    else map_rows_of(&g, 32);
}

/* Interleaves 16 channels at two positions into pairs. */
INLINE void pair_up(const half *value, const half *next, uint32_t *to) {
    const __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8,
                                           39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    __m512i a = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)value));
    __m512i b = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)next));
    _mm512_storeu_si512(to, _mm512_permutex2var_epi16(a, order, b));
}

/* Adds rows of dy to the sums of three taps, for 16 output channels and up to 8 input channels,
   starting at i. */
INLINE void weight_part(const uint32_t *dy, const uint32_t *const *x, int64_t rows, int64_t pairs,
                        int size, int step, int i, float *to) {
    enum { MOST = 8 };
    const int wide = size < 16 ? 16 : size, taken = size < MOST ? size : MOST;
    __m512 sums[3][MOST];
    __m512i own[MOST]; /* the input channel of each sum */
    for (int k = 0; k < taken && size < 16; k++)
        own[k] = _mm512_add_epi32(firsts(size), _mm512_set1_epi32(k));
#pragma GCC unroll 3
    for (int tap = 0; tap < 3; tap++)
#pragma GCC unroll 8
        for (int k = 0; k < taken; k++) sums[tap][k] = _mm512_loadu_ps(to + (tap * size + i + k) * 16);
    for (int64_t row = 0; row < rows; row++) {
        if (!x[row]) continue;
        const uint32_t *from = x[row], *with = dy + row * pairs * wide;
        for (int64_t p = 0; p < pairs; p++, from += 2 * step * wide, with += wide) {
            __m512i given = load(with);
#pragma GCC unroll 3
            for (int tap = 0; tap < 3; tap++) {
                __m512i read = load(from + tap * wide);
#pragma GCC unroll 8
                for (int k = 0; k < taken; k++) {
                    __m512i met = size < 16 ? _mm512_permutexvar_epi32(own[k], read)
                                            : spread(from + tap * wide + i + k);
                    sums[tap][k] = add(sums[tap][k], given, met);
                }
            }
        }
    }
#pragma GCC unroll 3
    for (int tap = 0; tap < 3; tap++)
#pragma GCC unroll 8
        for (int k = 0; k < taken; k++) _mm512_storeu_ps(to + (tap * size + i + k) * 16, sums[tap][k]);
}

/* Adds some output rows, starting at `number`, to the sums of all channels. The addresses of their
   values are computed once. Then the values are packed in pairs, for one group or 16 channels at a
   time, and each pair is used for many sums. */
INLINE void weight_some(const struct groups *g, int64_t number, int64_t rows, int size, int step,
                        void *space, float *sums) {
    const int wide = size < 16 ? 16 : size;
    int64_t pairs = (g->out_width + 1) / 2, reads = 2 * step * (pairs - 1) + 3;
    const half **given = space, **read = given + rows * 2 * pairs;
    const uint32_t **starts = (const uint32_t **)(read + rows * 3 * (reads + step));
    uint32_t *dy = (uint32_t *)(starts + rows), *x = dy + rows * pairs * wide;
    for (int64_t i = 0; i < rows * 2 * pairs; i++) {
        int64_t row = number + i / (2 * pairs), column = i % (2 * pairs);
        given[i] = column < g->out_width ? g->dy + (row * g->out_width + column) * g->channels : g->zeros;
    }
    for (int64_t i = 0; i < 3 * rows; i++) {
        int64_t at = number + i % rows, image = at / g->out_height, row = at % g->out_height;
        const half *from = row_of(g, image, row * step - g->top + i / rows, 1);
        for (int64_t j = 0; j < reads + step; j++)
            read[i * (reads + step) + j] = from ? value(g, from, j - g->left, 1) : NULL;
    }
    for (int64_t c = 0; c < g->channels; c += wide) {
        for (int64_t i = 0; i < rows * pairs; i++)
            for (int k = 0; k < wide; k += 16)
                pair_up(given[2 * i] + c + k, given[2 * i + 1] + c + k, dy + i * wide + k);
        for (int tap = 0; tap < 3; tap++) {
            for (int64_t row = 0; row < rows; row++) {
                const half **from = read + (tap * rows + row) * (reads + step);
                uint32_t *to = x + row * reads * wide;
                starts[row] = *from ? to : NULL;
                for (int64_t i = 0; *from && i < reads; i++)
                    for (int k = 0; k < wide; k += 16)
                        pair_up(from[i] + c + k, from[i + step] + c + k, to + i * wide + k);
            }
            for (int k = 0; k < wide; k += 16)
                for (int i = 0; i < size; i += 8)
                    weight_part(dy + k, starts, rows, pairs, size, step, i,
                                sums + ((c + k) * 9 + tap * 3 * 16) * size);
        }
    }
}

INLINE void weight_rows(const struct groups *g, int size, int step) {
    int64_t rows = g->count * g->out_height, thread = g->pool.thread(), threads = g->pool.threads();
    char *space = g->space + thread * NAMED(groups_space)(g);
    float *sums = g->sums + thread * g->channels * 9 * size;
    int64_t end = rows * (thread + 1) / threads, some = rows_at_once(g);
    for (int64_t i = rows * thread / threads; i < end; i += some)
        weight_some(g, i, least(some, end - i), size, step, space, sums);
}

INLINE void weight_rows_of(const struct groups *g, int size) {
    if (g->step == 2) weight_rows(g, size, 2);
    else weight_rows(g, size, 1);
}

static void weight_job(void *job) {
    const struct groups g = *(const struct groups *)job;
    if (g.size == 4) weight_rows_of(&g, 4);
    else if (g.size == 8) weight_rows_of(&g, 8);
    else if (g.size == 16) weight_rows_of(&g, 16);
    else weight_rows_of(&g, 32);
}

EXPORTED void NAMED(groups_map)(struct groups *g) { g->pool.parallel(map_job, g, g->threads, 0); }

EXPORTED void NAMED(groups_weight)(struct groups *g) { g->pool.parallel(weight_job, g, g->threads, 0); }
