/* 3x3 convolutions of stride 1 over channels-last maps of float32, by Winograd's F(4x4, 3x3). The
   notation is that of Lavin and Gray 2015 (arXiv 1509.09308), section 4.1, as in winograd.c.

   A tile of 4x4 output values takes 36 multiplications per channel instead of 144:

       Y = A^T [(G g G^T) . (B^T d B)] A        the output; with g rotated, the input gradient
       dg = G^T [(A dY A^T) . (B^T d B)] G      the weight gradient

   The elementwise product has 36 points. Each point is a matrix product over channels, or over
   tiles for the weight gradient. Tiles are processed in blocks, so that the intermediate values
   between x and Y stay in a core's caches. The numbers of channels are multiples of COLUMNS. */

#include "fp32.h"

#define SIDE 6     /* of an input tile */
#define GIVEN 4    /* side of an output tile */
#define POINTS 36  /* values in an input tile */
#define APART 80   /* values between planes, so that 36 planes do not map to the same cache set */
#ifdef __AVX512F__
#define ROWS 12 /* rows of an output's product at a time: 24 sums in 32 registers */
#else
#define ROWS 6 /* 12 sums in 16 registers */
#endif
/* The tiles of a block: as many as these bytes hold, within bounds. */
#define BLOCK_BYTES (1 << 19)
#define LEAST_TILES 24
#define MOST_TILES 60
#define DEEP_BYTES (1 << 22) /* the same for the weight gradient */
#define LEAST_DEEP 64
#define MOST_DEEP 256

struct winograd {
    struct pool pool;
    int32_t threads;
    int32_t turned; /* computes the input gradient; weight is then [channels, 3, 3, out_channels] */
    int64_t count, height, width, channels; /* of x */
    int64_t top, left; /* zero padding before x; the size of the output implies that after x */
    int64_t out_height, out_width, out_channels;
    const float *x;
    const float *weight; /* [out_channels, 3, 3, channels] */
    float *y;            /* the result of winograd_fp32_map */
    const float *dy;     /* the gradient of y */
    float *dweight;      /* the result of winograd_fp32_weight */
    char *space;         /* the workspace of winograd_fp32_space bytes */
    int64_t next;        /* the next block of tiles that no thread has started */
};

/* The layout of the data: tiles, blocks of tiles, planes (the distance in values from one point to
   the next) and the workspace. */
struct plan {
    int64_t wide, each, all;     /* tiles in a row, in an image, in the batch */
    int64_t block, u, v, m;      /* for winograd_fp32_map: tiles in a block, and planes */
    int64_t deep, v_back, g, du; /* for winograd_fp32_weight: tiles in a block, and planes */
    int64_t zeros, shared, own;  /* parts of the workspace, in bytes */
};

static struct plan plan_of(const struct winograd *w) {
    struct plan p;
    int64_t in = w->channels, out = w->out_channels;
    p.wide = (w->out_width + GIVEN - 1) / GIVEN;
    p.each = (w->out_height + GIVEN - 1) / GIVEN * p.wide;
    p.all = w->count * p.each;
    /* As many blocks for each thread, of as many tiles as the caches hold. */
    int64_t fit = most(least(BLOCK_BYTES / (4 * POINTS * in), MOST_TILES), LEAST_TILES);
    int64_t turns = (p.all + w->threads * fit - 1) / (w->threads * fit);
    p.block = up((p.all + w->threads * turns - 1) / (w->threads * turns), ROWS);
    p.u = in * out + APART;
    p.v = p.block * in + APART;
    p.m = p.block * COLUMNS + APART;
    p.deep = least(p.all, most(least(DEEP_BYTES / (4 * POINTS * (in + out)), MOST_DEEP), LEAST_DEEP));
    p.v_back = p.deep * in + APART;
    p.g = p.deep * out + APART;
    p.du = in * out;
    p.zeros = up(4 * most(in, out), PAGE);
    p.shared = up(4 * POINTS * p.u, PAGE);
    p.own = up(4 * POINTS * (p.v + p.m), PAGE);
    return p;
}

EXPORTED int64_t NAMED(winograd_fp32_space)(const struct winograd *w) {
    struct plan p = plan_of(w);
    int64_t map = p.shared + w->threads * p.own;
    int64_t weight = 4 * POINTS * (p.v_back + p.g + p.du);
    return 3 * PAGE + p.zeros + most(map, weight);
}

/* One side of U = G g G^T: 3 values to 6. */
INLINE void spread(vec a, vec b, vec c, vec *to, int step) {
    vec ends = (a + c) * (1.0f / 6), far = a * (1.0f / 24) + c * (1.0f / 6), middle = b * (1.0f / 6);
    to[0] = a * 0.25f;
    to[step] = -ends - middle, to[2 * step] = middle - ends;
    to[3 * step] = far + middle * 0.5f, to[4 * step] = far - middle * 0.5f;
    to[5 * step] = c;
}

/* U = G g G^T. If turned, g is rotated by 180 degrees. */
INLINE void spread_both(const vec g[9], vec u[POINTS], int turned) {
    vec r[SIDE * 3];
    for (int j = 0; j < 3; j++)
        spread(g[turned ? 8 - j : j], g[turned ? 5 - j : 3 + j], g[turned ? 2 - j : 6 + j], r + j, 3);
    for (int i = 0; i < SIDE; i++) spread(r[3 * i], r[3 * i + 1], r[3 * i + 2], u + SIDE * i, 1);
}

/* One side of V = B^T d B: 6 values to 6. */
INLINE void look(const vec *d, vec *to, int step) {
    vec even = d[4 * step] - 4.0f * d[2 * step], odd = d[3 * step] - 4.0f * d[step];
    vec even_far = d[4 * step] - d[2 * step], odd_far = 2.0f * (d[3 * step] - d[step]);
    vec first = 4.0f * d[0] - 5.0f * d[2 * step] + d[4 * step];
    vec last = 4.0f * d[step] - 5.0f * d[3 * step] + d[5 * step];
    to[0] = first, to[5 * step] = last;
    to[step] = even + odd, to[2 * step] = even - odd;
    to[3 * step] = even_far + odd_far, to[4 * step] = even_far - odd_far;
}

/* V = B^T d B of WIDE channels. */
INLINE void look_both(const float *const d[POINTS], int64_t c, vec v[POINTS]) {
    for (int j = 0; j < SIDE; j++) {
        vec column[SIDE];
        for (int i = 0; i < SIDE; i++) column[i] = load(d[SIDE * i + j] + c);
        vec found[SIDE];
        look(column, found, 1);
        for (int i = 0; i < SIDE; i++) v[SIDE * i + j] = found[i];
    }
    for (int i = 0; i < SIDE; i++) {
        vec found[SIDE];
        look(v + SIDE * i, found, 1);
        for (int j = 0; j < SIDE; j++) v[SIDE * i + j] = found[j];
    }
}

/* One side of A dY A^T: 4 values to 6. */
INLINE void look_back(const vec y[GIVEN], vec *to, int step) {
    vec even = y[0] + y[2], odd = y[1] + y[3];
    vec even_far = y[0] + 4.0f * y[2], odd_far = 2.0f * y[1] + 8.0f * y[3];
    to[0] = y[0], to[5 * step] = y[3];
    to[step] = even + odd, to[2 * step] = even - odd;
    to[3 * step] = even_far + odd_far, to[4 * step] = even_far - odd_far;
}

/* A dY A^T of WIDE channels. */
INLINE void look_back_both(const float *const d[GIVEN * GIVEN], int64_t c, vec g[POINTS]) {
    vec r[SIDE * GIVEN];
    for (int j = 0; j < GIVEN; j++) {
        vec column[GIVEN];
        for (int i = 0; i < GIVEN; i++) column[i] = load(d[GIVEN * i + j] + c);
        look_back(column, r + j, GIVEN);
    }
    for (int i = 0; i < SIDE; i++) look_back(r + GIVEN * i, g + SIDE * i, 1);
}

/* One side of Y = A^T m A: 6 values to 4. */
INLINE void give(const vec m[SIDE], vec *to, int step) {
    vec sum = m[1] + m[2], difference = m[1] - m[2], far_sum = m[3] + m[4], far = m[3] - m[4];
    to[0] = m[0] + sum + far_sum;
    to[step] = difference + 2.0f * far;
    to[2 * step] = sum + 4.0f * far_sum;
    to[3 * step] = difference + 8.0f * far + m[5];
}

/* Y = A^T m A of WIDE channels. */
INLINE void give_both(const float *m, int64_t plane, float *const to[GIVEN * GIVEN], int64_t c) {
    vec r[GIVEN * SIDE];
    for (int j = 0; j < SIDE; j++) {
        vec column[SIDE];
        for (int i = 0; i < SIDE; i++) column[i] = load(m + (SIDE * i + j) * plane);
        give(column, r + j, SIDE);
    }
    for (int i = 0; i < GIVEN; i++) {
        vec found[GIVEN];
        give(r + SIDE * i, found, 1);
        for (int j = 0; j < GIVEN; j++) store(to[GIVEN * i + j] + c, found[j]);
    }
}

/* One side of dg = G^T m G: 6 values to 3. */
INLINE void settle(const vec m[SIDE], vec *to, int step) {
    vec sum = (m[1] + m[2]) * (1.0f / 6), difference = (m[2] - m[1]) * (1.0f / 6);
    vec far_sum = (m[3] + m[4]) * (1.0f / 6), far = (m[3] - m[4]) * (1.0f / 12);
    to[0] = 0.25f * m[0] - sum + 0.25f * far_sum;
    to[step] = difference + far;
    to[2 * step] = far_sum - sum + m[5];
}

/* Returns the address of the columns of the second factor that start at q, of channel c. */
INLINE float *panel(const struct winograd *w, float *u, int64_t q, int64_t c) {
    return u + (q / COLUMNS * w->channels + c) * COLUMNS + q % COLUMNS;
}

/* Packs U = G g G^T of WIDE channels and WIDE columns: [36 points, columns / COLUMNS, channels,
   COLUMNS]. */
static void pack(const struct winograd *w, const struct plan *p, float *u, int64_t q, int64_t c) {
    vec found[WIDE][POINTS], g[9];
    for (int row = 0; row < WIDE; row++) {
        for (int tap = 0; tap < 9; tap++) g[tap] = load(w->weight + ((q + row) * 9 + tap) * w->channels + c);
        spread_both(g, found[row], 0);
    }
    float *to = panel(w, u, q, c);
    for (int i = 0; i < POINTS; i++, to += p->u)
        for (int column = 0; column < WIDE; column++)
            for (int row = 0; row < WIDE; row++) to[column * COLUMNS + row] = found[row][i][column];
}

/* Packs U for the input gradient. In the weights, the columns are then contiguous. */
static void pack_turned(const struct winograd *w, const struct plan *p, float *u, int64_t q, int64_t c) {
    vec found[POINTS], g[9];
    for (int row = 0; row < WIDE; row++) {
        for (int tap = 0; tap < 9; tap++)
            g[tap] = load(w->weight + ((c + row) * 9 + tap) * w->out_channels + q);
        spread_both(g, found, 1);
        float *to = panel(w, u, q, c + row);
        for (int i = 0; i < POINTS; i++) store(to + i * p->u, found[i]);
    }
}

struct tile {
    int64_t image, row, column; /* of its first output value */
};

INLINE struct tile tile_at(const struct plan *p, int64_t number) {
    int64_t image = number / p->each, place = number % p->each;
    return (struct tile){image, place / p->wide * GIVEN, place % p->wide * GIVEN};
}

/* Finds the 6x6 input values of a tile. Values outside the map are zeros. */
INLINE void read_at(const struct winograd *w, struct tile t, const float *zeros, const float *d[POINTS]) {
    const float *map = w->x + t.image * w->height * w->width * w->channels;
    for (int i = 0; i < SIDE; i++) {
        int64_t row = t.row - w->top + i;
        int inside = row >= 0 && row < w->height;
        for (int j = 0; j < SIDE; j++) {
            int64_t column = t.column - w->left + j;
            int both = inside && column >= 0 && column < w->width;
            d[SIDE * i + j] = both ? map + (row * w->width + column) * w->channels : zeros;
        }
    }
}

/* Finds the 4x4 output values of a tile, in y or dy. Values outside the map are at `elsewhere`. */
INLINE void given_at(const struct winograd *w, struct tile t, const float *map, const float *elsewhere,
                     const float *d[GIVEN * GIVEN]) {
    map += ((t.image * w->out_height + t.row) * w->out_width + t.column) * w->out_channels;
    for (int i = 0; i < GIVEN; i++)
        for (int j = 0; j < GIVEN; j++) {
            int inside = t.row + i < w->out_height && t.column + j < w->out_width;
            d[GIVEN * i + j] = inside ? map + (i * w->out_width + j) * w->out_channels : elsewhere;
        }
}

/* Computes m = V U for ROWS rows of V and one panel of U. */
INLINE void multiply(const float *v, int64_t stride, const float *u, int64_t channels, float *m) {
    vec sums[ROWS][2] = {0};
    for (int64_t c = 0; c < channels; c++, u += COLUMNS, v++) {
        vec a = load(u), b = load(u + WIDE);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++) {
            vec factor = v[r * stride] - (vec){0};
            sums[r][0] += factor * a;
            sums[r][1] += factor * b;
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
        store(m + r * COLUMNS, sums[r][0]);
        store(m + r * COLUMNS + WIDE, sums[r][1]);
    }
}

static void map_block(const struct winograd *w, const struct plan *p, int64_t first, const float *zeros,
                      const float *u, float *v, float *m) {
    int64_t in = w->channels, count = least(p->block, p->all - first);
    float beside[COLUMNS]; /* a dummy target for values outside the map */
    for (int64_t t = 0; t < count; t++) {
        const float *d[POINTS];
        read_at(w, tile_at(p, first + t), zeros, d);
        for (int64_t c = 0; c < in; c += WIDE) {
            vec found[POINTS];
            look_both(d, c, found);
            float *to = v + t * in + c;
            for (int i = 0; i < POINTS; i++) store(to + i * p->v, found[i]);
        }
    }
    for (int64_t q = 0; q < w->out_channels; q += COLUMNS) {
        for (int i = 0; i < POINTS; i++)
            for (int64_t t = 0; t < count; t += ROWS) /* rows beyond the count are not used */
                multiply(v + i * p->v + t * in, in, u + i * p->u + q * in, in,
                         m + i * p->m + t * COLUMNS);
        for (int64_t t = 0; t < count; t++) {
            const float *to[GIVEN * GIVEN];
            given_at(w, tile_at(p, first + t), w->y + q, beside, to);
            for (int s = 0; s < COLUMNS; s += WIDE)
                give_both(m + t * COLUMNS + s, p->m, (float *const *)to, s);
        }
    }
}

static void map_job(void *job) {
    struct winograd *w = job;
    const struct plan p = plan_of(w);
    int thread = w->pool.thread(), threads = w->pool.threads();
    float *zeros = (float *)on_page(w->space), *u = (float *)((char *)zeros + p.zeros);
    float *v = (float *)((char *)u + p.shared + thread * p.own);
    float *m = v + POINTS * p.v;
    int64_t columns = w->out_channels / WIDE, packs = columns * (w->channels / WIDE);
    if (thread == 0) memset(zeros, 0, p.zeros);
    for (int64_t i = packs * thread / threads; i < packs * (thread + 1) / threads; i++)
        (w->turned ? pack_turned : pack)(w, &p, u, i % columns * WIDE, i / columns * WIDE);
    w->pool.barrier();
    /* Dynamic scheduling: a delayed thread processes fewer blocks. The result is the same. */
    for (;;) {
        int64_t first = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED) * p.block;
        if (first >= p.all) return;
        map_block(w, &p, first, zeros, u, v, m);
    }
}

/* Computes V of a tile, [36 points, channels / COLUMNS, tiles, COLUMNS], and A dY A^T in panels of
   BACK_ROWS. */
INLINE void look_at_tile(const struct winograd *w, const struct plan *p, int64_t number, int64_t t,
                         const float *zeros, float *v, float *g) {
    const float *d[POINTS], *dy[GIVEN * GIVEN];
    read_at(w, tile_at(p, number), zeros, d);
    given_at(w, tile_at(p, number), w->dy, zeros, dy);
    vec found[POINTS];
    for (int64_t c = 0; c < w->channels; c += WIDE) {
        look_both(d, c, found);
        float *to = v + (c / COLUMNS * p->deep + t) * COLUMNS + c % COLUMNS;
        for (int i = 0; i < POINTS; i++) store(to + i * p->v_back, found[i]);
    }
    for (int64_t c = 0; c < w->out_channels; c += WIDE) {
        look_back_both(dy, c, found);
        float *to = g + c * p->deep + t * BACK_ROWS;
        for (int i = 0; i < POINTS; i++) {
            float *place = to + i * p->g;
            store_halves(place, place + BACK_ROWS * p->deep, found[i]);
        }
    }
}

/* Computes dg = G^T m G of one row of du, for WIDE channels. */
static void settle_both(const struct winograd *w, const float *du, int64_t row, int64_t c) {
    int64_t in = w->channels, out = w->out_channels;
    const float *from = du + (c / COLUMNS * out + row) * COLUMNS + c % COLUMNS;
    vec r[3 * SIDE], found[3];
    for (int j = 0; j < SIDE; j++) {
        vec column[SIDE];
        for (int i = 0; i < SIDE; i++) column[i] = load(from + (SIDE * i + j) * in * out);
        settle(column, r + j, SIDE);
    }
    for (int i = 0; i < 3; i++) {
        settle(r + SIDE * i, found, 1);
        for (int j = 0; j < 3; j++) store(w->dweight + (row * 9 + 3 * i + j) * in + c, found[j]);
    }
}

static void weight_job(void *job) {
    struct winograd *w = job;
    const struct plan p = plan_of(w);
    int thread = w->pool.thread(), threads = w->pool.threads();
    int64_t in = w->channels, out = w->out_channels, panels = POINTS * (in / COLUMNS);
    int64_t begin = panels * thread / threads, end = panels * (thread + 1) / threads;
    float *zeros = (float *)on_page(w->space), *v = (float *)((char *)zeros + p.zeros);
    float *g = v + POINTS * p.v_back;
    float *du = (float *)on_page((char *)(g + POINTS * p.g)); /* [36, in / COLUMNS, out, COLUMNS] */
    if (thread == 0) memset(zeros, 0, p.zeros);
    memset(du + begin * out * COLUMNS, 0, (end - begin) * out * COLUMNS * sizeof *du);
    w->pool.barrier();
    for (int64_t first = 0; first < p.all; first += p.deep) {
        int64_t tiles = least(p.deep, p.all - first);
        for (int64_t i = tiles * thread / threads; i < tiles * (thread + 1) / threads; i++)
            look_at_tile(w, &p, first + i, i, zeros, v, g);
        w->pool.barrier();
        for (int64_t i = begin; i < end; i++) {
            int64_t point = i / (in / COLUMNS), c = i % (in / COLUMNS) * COLUMNS;
            for (int64_t row = 0; row < out; row += BACK_ROWS)
                multiply_back(g + point * p.g + row * p.deep, v + point * p.v_back + c * p.deep, tiles,
                              du + (i * out + row) * COLUMNS);
        }
        w->pool.barrier();
    }
    for (int64_t row = out * thread / threads; row < out * (thread + 1) / threads; row++)
        for (int64_t c = 0; c < in; c += WIDE) settle_both(w, du, row, c);
}

EXPORTED void NAMED(winograd_fp32_map)(struct winograd *w) {
    w->next = 0;
    w->pool.parallel(map_job, w, w->threads, 0);
}

EXPORTED void NAMED(winograd_fp32_weight)(struct winograd *w) {
    w->pool.parallel(weight_job, w, w->threads, 0);
}
