/* 3x3 convolutions in groups of 4 to 32 channels, over channels-last maps of float32, as groups.c has
   them for bfloat16. A vector holds the sums of 8 output channels, from two groups if these have 4.
   Each sum is updated with the input channels of its own group. The numbers of input and output
   channels are equal, and a multiple of 8. */

#include "common.h"

#include <immintrin.h>

#define EIGHT 8
#define PLACES 7                /* neighbouring output positions for which weights are read once */
#define READ (2 * PLACES + 1)   /* the maximum number of input positions that these need in a row */
#define PART 4                  /* input channels whose weight gradient is summed at a time */
#define PACKED 128              /* output positions that groups_fp32_weight packs at once */

typedef float eight __attribute__((vector_size(32)));
typedef float loose __attribute__((vector_size(32), aligned(4), may_alias));

struct groups {
    struct pool pool;
    int32_t threads, size; /* size: channels of a group: 4, 8, 16 or 32 */
    int32_t step;          /* 1 or 2: the stride */
    int32_t holes;         /* 1 or 2: the distance between values of x, with zeros in between */
    int64_t count, height, width, channels; /* of x */
    int64_t top, left;                      /* zero padding before x */
    int64_t out_height, out_width;
    const float *x;
    const float *weight; /* [channels / 8, 9, size, 8] */
    float *y;            /* the result of groups_fp32_map */
    const float *dy;     /* the gradient of y */
    float *sums;         /* groups_fp32_weight adds to it: [threads, channels / 8, 9, size, 8] */
    const float *zeros;  /* [channels] */
    char *space;         /* [threads, groups_fp32_space] */
};

/* Returns how many output rows groups_fp32_weight packs at once. With several rows, the sums stay in
   registers for longer. */
INLINE int64_t rows_at_once(const struct groups *g) { return most(1, PACKED / g->out_width); }

INLINE int64_t reads_in_row(const struct groups *g) { return g->step * (g->out_width - 1) + 3; }

/* Returns the workspace in bytes that each thread of groups_fp32_weight needs. */
EXPORTED int64_t NAMED(groups_fp32_space)(const struct groups *g) {
    return rows_at_once(g) * (g->out_width + 3 * reads_in_row(g)) * (int64_t)sizeof(eight);
}

INLINE eight load(const float *place) { return *(const loose *)place; }
INLINE void store(float *place, eight values) { *(loose *)place = values; }

/* Returns for each of the 8 channels that start at c input channel i of its group. */
INLINE eight met(const float *place, int64_t c, int size, int i) {
    if (size > 4) return place[(c & -size) + i] - (eight){0};
    __m256 both = (__m256)load(place + c);
    switch (i) {
    case 0: return (eight)_mm256_permute_ps(both, 0x00);
    case 1: return (eight)_mm256_permute_ps(both, 0x55);
    case 2: return (eight)_mm256_permute_ps(both, 0xaa);
    default: return (eight)_mm256_permute_ps(both, 0xff);
    }
}

/* Returns the first value of a row of x with holes; NULL if the row is padding or a hole. */
INLINE const float *row_of(const struct groups *g, int64_t image, int64_t row, int holes) {
    if (row < 0 || row % holes || row / holes >= g->height) return NULL;
    return g->x + (image * g->height + row / holes) * g->width * g->channels;
}

/* Returns the channels at a column of such a row, or zeros for padding or a hole. */
INLINE const float *value(const struct groups *g, const float *row, int64_t column, int holes) {
    int inside = row && column >= 0 && column / holes < g->width;
    return inside ? row + column / holes * g->channels : g->zeros;
}

/* Computes PLACES neighbouring output positions of 8 channels, starting at c. With holes = 2, only
   the input positions x with x % 2 == odd have values; the others are holes. */
INLINE void map_part(const struct groups *g, const float *const from[3][READ], int64_t c, int size,
                     int step, int holes, int odd, eight sums[PLACES]) {
    const float *weight = g->weight + c * 9 * size;
    for (int j = 0; j < PLACES; j++) sums[j] = (eight){0};
    for (int row = 0; row < 3; row++, weight += 3 * size * EIGHT) {
        if (!from[row][0]) continue;
#pragma GCC unroll 4
        for (int i = 0; i < size; i++) {
            eight with[3];
#pragma GCC unroll 3
            for (int tap = 0; tap < 3; tap++) with[tap] = load(weight + (tap * size + i) * EIGHT);
#pragma GCC unroll 15
            for (int x = 0; x < step * (PLACES - 1) + 3; x++) {
                if (holes == 2 && x % 2 != odd) continue;
                eight read = met(from[row][x], c, size, i);
#pragma GCC unroll 3
                for (int tap = 0; tap < 3; tap++) {
                    int j = (x - tap) / step;
                    if (x < tap || (x - tap) % step || j >= PLACES) continue;
                    sums[j] += read * with[tap];
                }
            }
        }
    }
}

INLINE void map_row(const struct groups *g, int64_t number, int size, int step, int holes) {
    int64_t image = number / g->out_height, row = number % g->out_height;
    for (int64_t column = 0; column < g->out_width; column += PLACES) {
        const float *from[3][READ];
        for (int i = 0; i < 3; i++) {
            const float *read = row_of(g, image, row * step - g->top + i, holes);
            from[i][0] = NULL;
            for (int j = 0; read && j < step * (PLACES - 1) + 3; j++)
                from[i][j] = value(g, read, column * step - g->left + j, holes);
        }
        int64_t wide = least(PLACES, g->out_width - column);
        float *to = g->y + (number * g->out_width + column) * g->channels;
        for (int64_t c = 0; c < g->channels; c += EIGHT) {
            eight sums[PLACES];
            if (holes == 1) map_part(g, from, c, size, step, 1, 0, sums);
            else if ((column - g->left) % 2) map_part(g, from, c, size, 1, 2, 1, sums);
            else map_part(g, from, c, size, 1, 2, 0, sums);
            for (int64_t j = 0; j < wide; j++) store(to + j * g->channels + c, sums[j]);
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

/* Adds rows of dy to the sums of three taps, for 8 output channels and PART input channels, starting
   at i. x holds the 8 input channels that start at a multiple of 8. */
INLINE void weight_part(const eight *dy, const eight *x, int64_t rows, int64_t places, int size,
                        int step, int i, float *to) {
    eight sums[3][PART];
#pragma GCC unroll 3
    for (int tap = 0; tap < 3; tap++)
#pragma GCC unroll 4
        for (int k = 0; k < PART; k++) sums[tap][k] = load(to + (tap * size + i + k) * EIGHT);
    for (int64_t row = 0; row < rows; row++, x += 3 - step)
        for (int64_t p = 0; p < places; p++, x += step, dy++)
#pragma GCC unroll 3
            for (int tap = 0; tap < 3; tap++)
#pragma GCC unroll 4
                for (int k = 0; k < PART; k++)
                    sums[tap][k] += *dy * met((const float *)(x + tap), 0, size, i % EIGHT + k);
#pragma GCC unroll 3
    for (int tap = 0; tap < 3; tap++)
#pragma GCC unroll 4
        for (int k = 0; k < PART; k++) store(to + (tap * size + i + k) * EIGHT, sums[tap][k]);
}

/* Adds some output rows, starting at `number`, to the sums of all channels. The values are first
   copied to one place, for 8 channels at a time, and each is used for many sums. */
INLINE void weight_some(const struct groups *g, int64_t number, int64_t rows, int size, int step,
                        void *space, float *sums) {
    int64_t places = g->out_width, reads = reads_in_row(g);
    eight *dy = space, *x = dy + rows * places;
    for (int64_t c = 0; c < g->channels; c += EIGHT) {
        const float *given = g->dy + number * places * g->channels + c;
        for (int64_t i = 0; i < rows * places; i++) dy[i] = load(given + i * g->channels);
        /* The input channels of the group, 8 at a time; those of two groups of 4 are 8 too. */
        int64_t first = size > EIGHT ? c & -size : c;
        for (int i = 0; i < most(size, EIGHT); i += EIGHT)
            for (int tap = 0; tap < 3; tap++) {
                for (int64_t row = 0; row < rows; row++) {
                    int64_t at = number + row, image = at / g->out_height;
                    const float *from = row_of(g, image, at % g->out_height * step - g->top + tap, 1);
                    for (int64_t j = 0; j < reads; j++)
                        x[row * reads + j] = load(value(g, from, j - g->left, 1) + first + i);
                }
                for (int k = i; k < least(size, i + EIGHT); k += PART)
                    weight_part(dy, x, rows, places, size, step, k, sums + (c * 9 + tap * 3 * EIGHT) * size);
            }
    }
}

INLINE void weight_rows(const struct groups *g, int size, int step) {
    int64_t rows = g->count * g->out_height, thread = g->pool.thread(), threads = g->pool.threads();
    char *space = g->space + thread * NAMED(groups_fp32_space)(g);
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

EXPORTED void NAMED(groups_fp32_map)(struct groups *g) { g->pool.parallel(map_job, g, g->threads, 0); }

EXPORTED void NAMED(groups_fp32_weight)(struct groups *g) {
    g->pool.parallel(weight_job, g, g->threads, 0);
}
