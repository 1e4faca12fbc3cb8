/* 3x3 convolutions of stride 1 over channels-last maps of bfloat16, by Winograd's F(2x2, 3x3). The
   notation is that of Lavin and Gray 2015 (arXiv 1509.09308), section 4.1.

   A tile of 2x2 output values takes 16 multiplications per channel instead of 36:

       Y = A^T [(G g G^T) . (B^T d B)] A        the output; with g rotated, the input gradient
       dg = G^T [(A dY A^T) . (B^T d B)] G      the weight gradient

   The elementwise product has 16 points. Each point is a matrix product over channels, or over
   tiles for the weight gradient. Its factors are rounded to bfloat16, and its sums are float32.
   Tiles are processed in blocks, so that the intermediate values between x and Y stay in a core's
   caches. The numbers of channels are multiples of 32. In a vector of 32 bfloat16, the even
   channels precede the odd ones, because this order needs no permutation when it is unpacked. G g
   G^T has the same order, and dg is reordered at the end. */

#include "common.h"

#include <string.h>

#define POINTS 16   /* values in a 4x4 input tile */
#define COLUMNS 32  /* columns of a panel of the second factor: two vectors */
#define ROWS 12     /* rows of an output's product at a time: 24 sums in 32 registers */
#define BACK_ROWS 8 /* rows of a weight gradient's product at a time */
#define APART 64    /* values between planes, so that 16 planes do not map to the same cache set */
#define PAGE 4096   /* bytes */

typedef uint16_t half;

struct winograd {
    struct pool pool;
    int32_t threads;
    int32_t turned; /* computes the input gradient; weight is then [channels, 3, 3, out_channels] */
    int64_t count, height, width, channels; /* of x */
    int64_t top, left; /* zero padding before x; the size of the output implies that after x */
    int64_t out_height, out_width, out_channels;
    const half *x;
    const float *weight; /* [out_channels, 3, 3, channels] */
    half *y;             /* the result of winograd_map */
    const half *dy;      /* the gradient of y */
    float *dweight;      /* the result of winograd_weight */
    char *space;         /* the workspace of winograd_space bytes */
    int64_t next;        /* the next block of tiles that no thread has started */
};

INLINE int64_t up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

/* The layout of the data: tiles, blocks of tiles, planes (the distance in values from one point to
   the next) and the workspace. */
struct plan {
    int64_t wide, each, all;         /* tiles in a row, in an image, in the batch */
    int64_t block, u, v, m;          /* for winograd_map: tiles in a block, and planes */
    int64_t deep, v_back, g, du;     /* for winograd_weight: tiles in a block, and planes */
    int64_t zeros, shared, own;      /* parts of the workspace, in bytes */
};

static struct plan plan_of(const struct winograd *w) {
    struct plan p;
    int64_t in = w->channels, out = w->out_channels;
    p.wide = (w->out_width + 1) / 2;
    p.each = (w->out_height + 1) / 2 * p.wide;
    p.all = w->count * p.each;
    p.block = up(most(least((1 << 18) / (2 * POINTS * in), 96), 48), ROWS);
    p.u = in * out + APART;
    p.v = p.block * in + APART;
    p.m = p.block * COLUMNS + APART;
    p.deep = least(up(p.all, 2), most(least((1 << 19) / (2 * POINTS * (in + out)), 256), 128));
    p.v_back = p.deep * in + APART;
    p.g = p.deep * out + APART;
    p.du = in * out;
    p.zeros = up(2 * most(in, out), PAGE);
    p.shared = up(2 * POINTS * p.u, PAGE);
    p.own = up(POINTS * (2 * p.v + 4 * p.m), PAGE);
    return p;
}

EXPORTED int64_t NAMED(winograd_space)(const struct winograd *w) {
    struct plan p = plan_of(w);
    int64_t map = p.shared + w->threads * p.own;
    int64_t weight = 2 * POINTS * (p.v_back + p.g + 2 * p.du);
    return 2 * PAGE + p.zeros + most(map, weight);
}

INLINE char *on_page(char *place) { return (char *)up((int64_t)place, PAGE); }

INLINE __m512i load(const void *place) { return _mm512_loadu_si512(place); }
INLINE void store(void *place, __m512i values) { _mm512_storeu_si512(place, values); }
INLINE __m512 sixteen(const float *place) { return _mm512_loadu_ps(place); }

INLINE __m512 even(__m512i halves) { return (__m512)_mm512_slli_epi32(halves, 16); }
INLINE __m512 odd(__m512i halves) {
    return (__m512)_mm512_and_epi32(halves, _mm512_set1_epi32((int)0xffff0000));
}

/* Returns 32 bfloat16: those of first, then those of second. */
INLINE __m512i join(__m512 first, __m512 second) {
    return (__m512i)_mm512_cvtne2ps_pbh(second, first);
}

/* Returns 16 pairs of bfloat16: one value of first and one of second. */
INLINE __m512i weave(__m512 first, __m512 second) {
    const __m512i order = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
        23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, join(first, second));
}

/* Returns sums plus the dot products of one pair with each of 16 pairs. */
INLINE __m512 add(__m512 sums, int32_t pair, __m512i pairs) {
    return _mm512_dpbf16_ps(sums, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)pairs);
}

INLINE int32_t pair_at(const half *place) {
    int32_t pair;
    memcpy(&pair, place, sizeof pair);
    return pair;
}

/* Computes u = G g G^T. If turned, g is rotated by 180 degrees. */
INLINE void spread(const __m512 g[9], __m512 u[POINTS], int turned) {
    const __m512 half_of = _mm512_set1_ps(0.5f);
    __m512 r[4][3];
    for (int j = 0; j < 3; j++) {
        __m512 a = g[turned ? 8 - j : j], b = g[turned ? 5 - j : 3 + j], c = g[turned ? 2 - j : 6 + j];
        r[0][j] = a, r[1][j] = half_of * (a + c + b), r[2][j] = half_of * (a + c - b), r[3][j] = c;
    }
    for (int i = 0; i < 4; i++) {
        __m512 a = r[i][0], b = r[i][1], c = r[i][2], *to = u + 4 * i;
        to[0] = a, to[1] = half_of * (a + c + b), to[2] = half_of * (a + c - b), to[3] = c;
    }
}

/* Computes v = B^T d B of 16 channels: the even or the odd ones of 32. */
INLINE void look(const half *const d[POINTS], int64_t c, int odds, __m512 v[POINTS]) {
    __m512 r[4][4];
    for (int j = 0; j < 4; j++) {
        __m512 a[4];
        for (int i = 0; i < 4; i++) a[i] = odds ? odd(load(d[4 * i + j] + c)) : even(load(d[4 * i + j] + c));
        r[0][j] = a[0] - a[2], r[1][j] = a[1] + a[2], r[2][j] = a[2] - a[1], r[3][j] = a[1] - a[3];
    }
    for (int i = 0; i < 4; i++) {
        __m512 *a = r[i], *to = v + 4 * i;
        to[0] = a[0] - a[2], to[1] = a[1] + a[2], to[2] = a[2] - a[1], to[3] = a[1] - a[3];
    }
}

/* Computes v = A dY A^T of 16 channels: the even or the odd ones of 32. */
INLINE void look_back(const half *const d[4], int64_t c, int odds, __m512 v[POINTS]) {
    __m512 r[4][2];
    for (int j = 0; j < 2; j++) {
        __m512i up = load(d[j] + c), down = load(d[2 + j] + c);
        __m512 a = odds ? odd(up) : even(up), b = odds ? odd(down) : even(down);
        r[0][j] = a, r[1][j] = a + b, r[2][j] = a - b, r[3][j] = -b;
    }
    for (int i = 0; i < 4; i++) {
        __m512 a = r[i][0], b = r[i][1], *to = v + 4 * i;
        to[0] = a, to[1] = a + b, to[2] = a - b, to[3] = -b;
    }
}

/* Transposes 16 rows of 16 pairs. */
INLINE void transpose(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + 2 + j]);
            r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + 2 + j]);
        }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 16; j += 8) {
            t[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
            t[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
        }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

/* Returns the address of 16 pairs of channels, starting at c, in the columns of the second factor
   that start at q. */
INLINE half *panel(const struct winograd *w, half *u, int64_t q, int64_t c) {
    return u + (q / COLUMNS * w->channels + c) * COLUMNS + q % COLUMNS * 2;
}

/* Packs U = G g G^T of 32 channels and 16 columns: [16 points, columns / 32, channels / 2, 32, 2].
   */
static void pack(const struct winograd *w, const struct plan *p, half *u, int64_t q, int64_t c) {
    const __m512i evens = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odds = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    __m512i rows[POINTS][16];
    for (int row = 0; row < 16; row++) {
        __m512 g[2][9], found[2][POINTS];
        for (int tap = 0; tap < 9; tap++) {
            const float *from = w->weight + ((q + row) * 9 + tap) * w->channels + c;
            g[0][tap] = _mm512_permutex2var_ps(sixteen(from), evens, sixteen(from + 16));
            g[1][tap] = _mm512_permutex2var_ps(sixteen(from), odds, sixteen(from + 16));
        }
        spread(g[0], found[0], 0);
        spread(g[1], found[1], 0);
        for (int i = 0; i < POINTS; i++) rows[i][row] = join(found[0][i], found[1][i]);
    }
    half *to = panel(w, u, q, c);
    for (int i = 0; i < POINTS; i++, to += p->u) {
        transpose(rows[i]);
        for (int pair = 0; pair < 16; pair++) store(to + pair * 2 * COLUMNS, rows[i][pair]);
    }
}

/* Packs U for the input gradient. In the weights, the columns are then contiguous. */
static void pack_turned(const struct winograd *w, const struct plan *p, half *u, int64_t q, int64_t c) {
    for (int pair = 0; pair < 16; pair++) {
        /* The pair consists of this channel and of channel + 2. */
        int64_t channel = c + (pair < 8 ? 4 * pair : 4 * (pair - 8) + 1);
        __m512 g[2][9], found[2][POINTS];
        for (int tap = 0; tap < 9; tap++)
            for (int i = 0; i < 2; i++)
                g[i][tap] = sixteen(w->weight + ((channel + 2 * i) * 9 + tap) * w->out_channels + q);
        spread(g[0], found[0], 1);
        spread(g[1], found[1], 1);
        half *to = panel(w, u, q, c + 2 * pair);
        for (int i = 0; i < POINTS; i++) store(to + i * p->u, weave(found[0][i], found[1][i]));
    }
}

struct tile {
    int64_t image, row, column; /* of its first output value */
};

INLINE struct tile tile_at(const struct plan *p, int64_t number) {
    int64_t image = number / p->each, place = number % p->each;
    return (struct tile){image, place / p->wide * 2, place % p->wide * 2};
}

/* Finds the 4x4 input values of a tile. Values outside the map are zeros. */
INLINE void read_at(const struct winograd *w, struct tile t, const half *zeros, const half *d[POINTS]) {
    const half *map = w->x + t.image * w->height * w->width * w->channels;
    for (int i = 0; i < POINTS; i++) {
        int64_t row = t.row - w->top + i / 4, column = t.column - w->left + i % 4;
        int inside = row >= 0 && row < w->height && column >= 0 && column < w->width;
        d[i] = inside ? map + (row * w->width + column) * w->channels : zeros;
    }
}

/* Finds the 2x2 output values of a tile, in y or dy. Values outside the map are at `elsewhere`. */
INLINE void given_at(const struct winograd *w, struct tile t, const half *map, const half *elsewhere,
                     const half *d[4]) {
    map += ((t.image * w->out_height + t.row) * w->out_width + t.column) * w->out_channels;
    for (int i = 0; i < 4; i++) {
        int inside = t.row + i / 2 < w->out_height && t.column + i % 2 < w->out_width;
        d[i] = inside ? map + (i / 2 * w->out_width + i % 2) * w->out_channels : elsewhere;
    }
}

/* Computes m = V U for ROWS rows of V and one panel of U. */
INLINE void multiply(const half *v, int64_t stride, const half *u, int64_t pairs, float *m) {
    __m512 sums[ROWS][2];
    for (int r = 0; r < ROWS; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (int64_t i = 0; i < pairs; i++, u += 2 * COLUMNS, v += 2) {
        __m512i a = load(u), b = load(u + COLUMNS);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++) {
            int32_t pair = pair_at(v + r * stride);
            sums[r][0] = add(sums[r][0], pair, a);
            sums[r][1] = add(sums[r][1], pair, b);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
        _mm512_storeu_ps(m + r * COLUMNS, sums[r][0]);
        _mm512_storeu_ps(m + r * COLUMNS + 16, sums[r][1]);
    }
}

/* Adds the products over pairs of tiles to du, for BACK_ROWS output channels and 32 input channels.
   */
INLINE void multiply_back(const half *g, const half *v, int64_t pairs, float *du) {
    __m512 sums[BACK_ROWS][2];
#pragma GCC unroll 8
    for (int r = 0; r < BACK_ROWS; r++) {
        sums[r][0] = sixteen(du + r * COLUMNS);
        sums[r][1] = sixteen(du + r * COLUMNS + 16);
    }
    for (int64_t i = 0; i < pairs; i++, v += 2 * COLUMNS, g += 2 * BACK_ROWS) {
        __m512i a = load(v), b = load(v + COLUMNS);
#pragma GCC unroll 8
        for (int r = 0; r < BACK_ROWS; r++) {
            sums[r][0] = add(sums[r][0], pair_at(g + 2 * r), a);
            sums[r][1] = add(sums[r][1], pair_at(g + 2 * r), b);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < BACK_ROWS; r++) {
        _mm512_storeu_ps(du + r * COLUMNS, sums[r][0]);
        _mm512_storeu_ps(du + r * COLUMNS + 16, sums[r][1]);
    }
}

/* Computes Y = A^T m A of 32 channels. */
INLINE void give(const float *m, int64_t plane, half *const to[4]) {
    __m512 y[2][4];
    for (int s = 0; s < 2; s++, m += 16) {
        __m512 r[2][4];
        for (int j = 0; j < 4; j++) {
            __m512 a[4];
            for (int i = 0; i < 4; i++) a[i] = sixteen(m + (4 * i + j) * plane);
            r[0][j] = a[0] + a[1] + a[2], r[1][j] = a[1] - a[2] - a[3];
        }
        for (int i = 0; i < 2; i++) {
            __m512 *a = r[i];
            y[s][2 * i] = a[0] + a[1] + a[2], y[s][2 * i + 1] = a[1] - a[2] - a[3];
        }
    }
    for (int i = 0; i < 4; i++) store(to[i], join(y[0][i], y[1][i]));
}

static void map_block(const struct winograd *w, const struct plan *p, int64_t first, const half *zeros,
                      const half *u, half *v, float *m) {
    int64_t in = w->channels, count = least(p->block, p->all - first);
    half beside[COLUMNS]; /* a dummy target for values outside the map */
    for (int64_t t = 0; t < count; t++) {
        const half *d[POINTS];
        read_at(w, tile_at(p, first + t), zeros, d);
        for (int64_t c = 0; c < in; c += 32) {
            __m512 found[2][POINTS];
            look(d, c, 0, found[0]);
            look(d, c, 1, found[1]);
            half *to = v + t * in + c;
            for (int i = 0; i < POINTS; i++) store(to + i * p->v, join(found[0][i], found[1][i]));
        }
    }
    for (int64_t q = 0; q < w->out_channels; q += COLUMNS) {
        for (int i = 0; i < POINTS; i++)
            for (int64_t t = 0; t < count; t += ROWS) /* rows beyond the count are not used */
                multiply(v + i * p->v + t * in, in, u + i * p->u + q * in, in / 2,
                         m + i * p->m + t * COLUMNS);
        for (int64_t t = 0; t < count; t++) {
            const half *to[4];
            given_at(w, tile_at(p, first + t), w->y + q, beside, to);
            give(m + t * COLUMNS, p->m, (half *const *)to);
        }
    }
}

static void map_job(void *job) {
    struct winograd *w = job;
    const struct plan p = plan_of(w);
    int thread = w->pool.thread(), threads = w->pool.threads();
    half *zeros = (half *)on_page(w->space), *u = (half *)((char *)zeros + p.zeros);
    half *v = (half *)((char *)u + p.shared + thread * p.own);
    float *m = (float *)(v + POINTS * p.v);
    int64_t columns = w->out_channels / 16, packs = columns * (w->channels / 32);
    if (thread == 0) memset(zeros, 0, p.zeros);
    for (int64_t i = packs * thread / threads; i < packs * (thread + 1) / threads; i++)
        (w->turned ? pack_turned : pack)(w, &p, u, i % columns * 16, i / columns * 32);
    w->pool.barrier();
    /* Dynamic scheduling: a delayed thread processes fewer blocks. The result is the same. */
    for (;;) {
        int64_t first = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED) * p.block;
        if (first >= p.all) return;
        map_block(w, &p, first, zeros, u, v, m);
    }
}

/* Computes V of a pair of tiles, [16 points, channels / 32, pairs, 32, 2], and A dY A^T in panels
   of 8. */
INLINE void look_at_pair(const struct winograd *w, const struct plan *p, int64_t number, int64_t pair,
                         const half *zeros, half *v, half *g) {
    const half *d[2][POINTS], *dy[2][4];
    for (int s = 0; s < 2; s++)
        if (number + s < p->all) {
            read_at(w, tile_at(p, number + s), zeros, d[s]);
            given_at(w, tile_at(p, number + s), w->dy, zeros, dy[s]);
        } else {
            for (int i = 0; i < POINTS; i++) d[s][i] = zeros;
            for (int i = 0; i < 4; i++) dy[s][i] = zeros;
        }
    __m512 a[POINTS], b[POINTS];
#define WOVEN(LOOK, from, odds, STORE)                                  \
    do {                                                                \
        LOOK((from)[0], c, odds, a);                                    \
        LOOK((from)[1], c, odds, b);                                    \
        for (int i = 0; i < POINTS; i++) STORE(i, odds, weave(a[i], b[i])); \
    } while (0)
#define TO_V(i, odds, pairs) store(v + (i) * p->v_back + c * p->deep + pair * 64 + (odds) * 32, pairs)
#define TO_G(i, odds, pairs)                                                          \
    do {                                                                              \
        half *to = g + (i) * p->g + (c + 16 * (odds)) * p->deep + pair * 2 * BACK_ROWS; \
        _mm256_storeu_si256((void *)to, _mm512_castsi512_si256(pairs));               \
        _mm256_storeu_si256((void *)(to + BACK_ROWS * p->deep), _mm512_extracti64x4_epi64(pairs, 1)); \
    } while (0)
    for (int64_t c = 0; c < w->channels; c += 32) {
        WOVEN(look, d, 0, TO_V);
        WOVEN(look, d, 1, TO_V);
    }
    for (int64_t c = 0; c < w->out_channels; c += 32) {
        WOVEN(look_back, dy, 0, TO_G);
        WOVEN(look_back, dy, 1, TO_G);
    }
}

/* Computes dg = G^T m G of one row of du, for 32 channels, and restores the order of the channels.
   */
static void settle(const struct winograd *w, const float *du, int64_t row, int64_t c) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    const __m512 half_of = _mm512_set1_ps(0.5f);
    int64_t in = w->channels, out = w->out_channels, place = row % 32;
    int64_t given = row - place + (place < 16 ? 2 * place : 2 * (place - 16) + 1);
    __m512 found[2][9];
    for (int s = 0; s < 2; s++) {
        const float *from = du + c * out + row * 32 + 16 * s;
        __m512 r[3][4];
        for (int j = 0; j < 4; j++) {
            __m512 a[4];
            for (int i = 0; i < 4; i++) a[i] = sixteen(from + (4 * i + j) * in * out);
            __m512 both = half_of * (a[1] + a[2]);
            r[0][j] = a[0] + both, r[1][j] = half_of * (a[1] - a[2]), r[2][j] = both + a[3];
        }
        for (int i = 0; i < 3; i++) {
            __m512 *a = r[i], *to = found[s] + 3 * i, both = half_of * (a[1] + a[2]);
            to[0] = a[0] + both, to[1] = half_of * (a[1] - a[2]), to[2] = both + a[3];
        }
    }
    for (int tap = 0; tap < 9; tap++) {
        float *to = w->dweight + (given * 9 + tap) * in + c;
        _mm512_storeu_ps(to, _mm512_permutex2var_ps(found[0][tap], low, found[1][tap]));
        _mm512_storeu_ps(to + 16, _mm512_permutex2var_ps(found[0][tap], high, found[1][tap]));
    }
}

static void weight_job(void *job) {
    struct winograd *w = job;
    const struct plan p = plan_of(w);
    int thread = w->pool.thread(), threads = w->pool.threads();
    int64_t in = w->channels, out = w->out_channels, panels = POINTS * (in / 32);
    int64_t begin = panels * thread / threads, end = panels * (thread + 1) / threads;
    half *zeros = (half *)on_page(w->space), *v = (half *)((char *)zeros + p.zeros);
    half *g = v + POINTS * p.v_back;
    float *du = (float *)on_page((char *)(g + POINTS * p.g)); /* [16 points, in / 32, out, 32] */
    if (thread == 0) memset(zeros, 0, p.zeros);
    memset(du + begin * out * 32, 0, (end - begin) * out * 32 * sizeof *du);
    w->pool.barrier();
    for (int64_t first = 0; first < p.all; first += p.deep) {
        int64_t pairs = (least(p.deep, p.all - first) + 1) / 2;
        for (int64_t i = pairs * thread / threads; i < pairs * (thread + 1) / threads; i++)
            look_at_pair(w, &p, first + 2 * i, i, zeros, v, g);
        w->pool.barrier();
        for (int64_t i = begin; i < end; i++) {
            int64_t point = i / (in / 32), c = i % (in / 32) * 32;
            for (int64_t row = 0; row < out; row += BACK_ROWS)
                multiply_back(g + point * p.g + row * p.deep, v + point * p.v_back + c * p.deep, pairs,
                              du + (i * out + row) * 32);
        }
        w->pool.barrier();
    }
    for (int64_t row = out * thread / threads; row < out * (thread + 1) / threads; row++)
        for (int64_t c = 0; c < in; c += 32) settle(w, du, row, c);
}

EXPORTED void NAMED(winograd_map)(struct winograd *w) {
    w->next = 0;
    w->pool.parallel(map_job, w, w->threads, 0);
}

EXPORTED void NAMED(winograd_weight)(struct winograd *w) { w->pool.parallel(weight_job, w, w->threads, 0); }
