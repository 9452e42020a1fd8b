/* The executor of `runner.compaction.sparse`: a list of operations on float32 planes, image by image.

   A plane holds the pixels of one channel, row by row, with zeros around them. `unit` images are interleaved pixel by
   pixel: 1, or a multiple of 8, so that a vector of 8 floats holds 8 pixels of a row, or one pixel of 8 images.
   All offsets count floats from the start of the arena, the memory that one thread works in. `operations.py` mirrors
   the structures below. */

#include <stdint.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#define LANES 8
#define MOST 12 /* vectors per block; an array without a constant size would not stay in registers */
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(32)));
typedef int32_t ivec __attribute__((vector_size(32)));
typedef float loose_vec __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t loose_ivec __attribute__((vector_size(32), aligned(4), may_alias));

enum kind { LOAD, STORE, TAPS, BLOCKS, COLUMNS, ROWS, SPLIT, MAX_POOL, GATHER, INTERLEAVE };

typedef struct {
    int32_t offset;
    float weight;
} tap;

typedef struct {
    int64_t kind, unit;
    int64_t channels, height, width;          /* of the result; SPLIT: of its source */
    int64_t in, in_plane, in_row;             /* offset of the first pixel; strides */
    int64_t out, out_plane, out_row;          /* -1: the first result isn't needed */
    int64_t second;                           /* the second result, with the layout of the first; -1: none */
    int64_t relu, second_relu;
    int64_t rows, vectors;                    /* of each result plane */
    int64_t block_rows, block_vectors;        /* accumulated at once */
    int64_t block_filters;
    int64_t filters_outside;                  /* whether the loop over filters is the outer one */
    int64_t size, stride, padding;            /* MAX_POOL; SPLIT: stride */
    int64_t in_height, in_width;              /* MAX_POOL */
    int64_t extent_rows, extent_columns;      /* SPLIT: largest number of rows and columns of a result plane */
    int64_t phases;                           /* SPLIT: bit ry * stride + rx is set if that plane is read */
    const int32_t *start;                     /* of the taps of each filter or block */
    const tap *taps;
    const int32_t *offsets;
    const float *weights;
    const float *bias;
    const float *scale, *shift;               /* of the second result; NULL: 1 and 0 */
    const int32_t *mask;                      /* 0 where a lane of a row is outside the image; NULL: none is */
} op;

typedef struct {
    int64_t group;                            /* images per pass through `grouped` */
    int64_t single_count, grouped_count;
    const op *single;                         /* run for each image of the group separately */
    const op *grouped;                        /* then run for all images of the group, interleaved */
    int64_t input_size, output_size;          /* floats per image */
} program;

INLINE vec load(const float *p) { return *(const loose_vec *)p; }
INLINE void store(float *p, vec v) { *(loose_vec *)p = v; }
INLINE vec splat(float x) { return (vec){x, x, x, x, x, x, x, x}; }

/* max(x, lowest), and NaN for NaN. This is torch.relu if lowest is 0, and the identity if it is minus infinity. */
INLINE vec at_least(vec lowest, vec x)
{
#ifdef __AVX__
    return __builtin_ia32_maxps256(lowest, x);
#else
    const ivec below = (ivec)(x < lowest);
    return (vec)(((ivec)x & ~below) | ((ivec)lowest & below));
#endif
}

/* a * b + c, rounded once in every kernel if the processor can, so that kernels agree to the last bit. */
INLINE vec multiply_add(vec a, vec b, vec c)
{
#ifdef __FMA__
    return __builtin_ia32_vfmaddps256(a, b, c);
#else
    return a * b + c;
#endif
}

INLINE vec masked(vec x, const int32_t *mask) { return (vec)((ivec)x & *(const loose_ivec *)mask); }

INLINE vec floor_of(int64_t relu) { return splat(relu ? 0.0f : -__builtin_inff()); }

/* Apply ReLU to one filter's sums in R rows of V vectors, then write the first result and the second, made from it. */
static __attribute__((noinline)) void finish_all(const op *o, float *arena, const vec *sum, int64_t filter, int64_t row,
                                                 int64_t vector, int64_t R, int64_t V)
{
    const int64_t at = filter * o->out_plane + row * o->out_row + vector * LANES;
    const vec lowest = floor_of(o->relu), second_lowest = floor_of(o->second_relu);
    const vec scale = splat(o->scale ? o->scale[filter] : 1.0f), shift = splat(o->scale ? o->shift[filter] : 0.0f);
    for (int64_t r = 0; r < R; r++)
        for (int64_t v = 0; v < V; v++) {
            const int64_t place = at + r * o->out_row + v * LANES;
            vec x = at_least(lowest, sum[r * V + v]), y = at_least(second_lowest, multiply_add(x, scale, shift));
            if (o->mask) {
                x = masked(x, o->mask + (vector + v) * LANES);
                y = masked(y, o->mask + (vector + v) * LANES);
            }
            if (o->out >= 0) store(arena + o->out + place, x);
            if (o->second >= 0) store(arena + o->second + place, y);
        }
}

/* The same. In the commonest case, one result and no padding in the vectors, sums are stored from registers. */
INLINE void finish(const op *o, float *arena, const vec *sum, int64_t filter, int64_t row, int64_t vector, const int R,
                   const int V)
{
    if (o->mask || o->second >= 0) {
        vec kept[MOST];
#pragma GCC unroll 16
        for (int i = 0; i < R * V; i++) kept[i] = sum[i];
        finish_all(o, arena, kept, filter, row, vector, R, V);
        return;
    }
    const vec lowest = floor_of(o->relu);
    float *q = arena + o->out + filter * o->out_plane + row * o->out_row + vector * LANES;
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 16
        for (int v = 0; v < V; v++) store(q + r * o->out_row + v * LANES, at_least(lowest, sum[r * V + v]));
}

/* One filter, R rows of V vectors: the sum of weighted, shifted planes. */
INLINE void taps_block(const op *o, float *arena, int64_t filter, int64_t row, int64_t vector, const int R, const int V)
{
    const int64_t in_row = o->in_row;
    const float *source = arena + row * in_row + vector * LANES;
    const tap *t = o->taps + o->start[filter], *end = o->taps + o->start[filter + 1];
    vec sum[MOST];
    const vec bias = splat(o->bias[filter]);
#pragma GCC unroll 16
    for (int i = 0; i < R * V; i++) sum[i] = bias;
    for (; t < end; t++) {
        const float *p = source + t->offset;
        const vec w = splat(t->weight);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
#pragma GCC unroll 16
            for (int v = 0; v < V; v++) sum[r * V + v] = multiply_add(w, load(p + r * in_row + v * LANES), sum[r * V + v]);
    }
    finish(o, arena, sum, filter, row, vector, R, V);
}

/* F filters that share a list of taps, R rows of V vectors. */
INLINE void filters_block(const op *o, float *arena, int64_t block, int64_t row, int64_t vector, const int F, const int R,
                          const int V)
{
    const int64_t in_row = o->in_row;
    const float *source = arena + row * in_row + vector * LANES;
    const int64_t first = o->start[block], end = o->start[block + 1];
    const float *w = o->weights + first * F;
    vec sum[MOST];
#pragma GCC unroll 16
    for (int i = 0; i < F * R * V; i++) sum[i] = splat(o->bias[block * F + i / (R * V)]);
    for (int64_t t = first; t < end; t++, w += F) {
        const float *p = source + o->offsets[t];
        vec x[MOST];
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
#pragma GCC unroll 16
            for (int v = 0; v < V; v++) x[r * V + v] = load(p + r * in_row + v * LANES);
#pragma GCC unroll 16
        for (int f = 0; f < F; f++)
#pragma GCC unroll 16
            for (int i = 0; i < R * V; i++) sum[f * R * V + i] = multiply_add(splat(w[f]), x[i], sum[f * R * V + i]);
    }
    vec kept[MOST];
#pragma GCC unroll 16
    for (int i = 0; i < F * R * V; i++) kept[i] = sum[i];
    for (int64_t f = block * F, i = 0; i < F && f < o->channels; f++, i++)
        finish_all(o, arena, kept + i * R * V, f, row, vector, R, V);
}

/* Loop over all filters, rows and vectors. The last block in each dimension starts early enough to be a full block. */
#define OVER_PLANES(count, R, V, CALL)                                                                                 \
    do {                                                                                                               \
        if (o->filters_outside) {                                                                                      \
            for (int64_t f = 0; f < (count); f++)                                                                      \
                for (int64_t i = 0; i < o->rows; i += R)                                                               \
                    for (int64_t j = 0; j < o->vectors; j += V) {                                                      \
                        const int64_t row = i + R > o->rows ? o->rows - R : i;                                         \
                        const int64_t vector = j + V > o->vectors ? o->vectors - V : j;                                \
                        CALL;                                                                                          \
                    }                                                                                                  \
        } else {                                                                                                       \
            for (int64_t i = 0; i < o->rows; i += R)                                                                   \
                for (int64_t j = 0; j < o->vectors; j += V) {                                                          \
                    const int64_t row = i + R > o->rows ? o->rows - R : i;                                             \
                    const int64_t vector = j + V > o->vectors ? o->vectors - V : j;                                    \
                    for (int64_t f = 0; f < (count); f++) CALL;                                                        \
                }                                                                                                      \
        }                                                                                                              \
    } while (0)

#define TAPS_OF(R, V)                                                                                                  \
    static void taps_##R##_##V(const op *from, float *arena)                                                           \
    {                                                                                                                  \
        const op copy = *from, *o = &copy; /* a copy that no store can change */                                       \
        OVER_PLANES(o->channels, R, V, taps_block(o, arena, f, row, vector, R, V));                                    \
    }

TAPS_OF(1, 1) TAPS_OF(2, 1) TAPS_OF(4, 1) TAPS_OF(7, 1) TAPS_OF(8, 1) TAPS_OF(1, 2) TAPS_OF(2, 2) TAPS_OF(4, 2)
TAPS_OF(1, 3) TAPS_OF(2, 3) TAPS_OF(1, 4) TAPS_OF(2, 4) TAPS_OF(1, 7) TAPS_OF(1, 8)

static int taps(const op *o, float *arena)
{
    switch (o->block_rows * 10 + o->block_vectors) {
#define CASE(R, V) case R * 10 + V: taps_##R##_##V(o, arena); return 0;
        CASE(1, 1) CASE(2, 1) CASE(4, 1) CASE(7, 1) CASE(8, 1) CASE(1, 2) CASE(2, 2) CASE(4, 2)
        CASE(1, 3) CASE(2, 3) CASE(1, 4) CASE(2, 4) CASE(1, 7) CASE(1, 8)
#undef CASE
    }
    return -1;
}

#define BLOCKS_OF(F, R, V)                                                                                             \
    static void blocks_##F##_##R##_##V(const op *from, float *arena)                                                   \
    {                                                                                                                  \
        const op copy = *from, *o = &copy;                                                                             \
        const int64_t blocks = (o->channels + F - 1) / F;                                                              \
        OVER_PLANES(blocks, R, V, filters_block(o, arena, f, row, vector, F, R, V));                                   \
    }

BLOCKS_OF(4, 1, 1) BLOCKS_OF(4, 2, 1) BLOCKS_OF(4, 1, 2) BLOCKS_OF(4, 3, 1) BLOCKS_OF(4, 1, 3) BLOCKS_OF(8, 1, 1)

static int blocks(const op *o, float *arena)
{
    switch (o->block_filters * 100 + o->block_rows * 10 + o->block_vectors) {
#define CASE(F, R, V) case F * 100 + R * 10 + V: blocks_##F##_##R##_##V(o, arena); return 0;
        CASE(4, 1, 1) CASE(4, 2, 1) CASE(4, 1, 2) CASE(4, 3, 1) CASE(4, 1, 3) CASE(8, 1, 1)
#undef CASE
    }
    return -1;
}

/* Like `finish`, for 8 filters of one pixel. */
INLINE void finish_pixel(const op *o, float *arena, vec x, int64_t filter)
{
    x = at_least(floor_of(o->relu), x);
    if (o->out >= 0) store(arena + o->out + filter, x);
    if (o->second >= 0) {
        if (o->scale) x = multiply_add(x, load(o->scale + filter), load(o->shift + filter));
        store(arena + o->second + filter, at_least(floor_of(o->second_relu), x));
    }
}

/* One pixel of one image: F * 8 adjacent filters that share a list of taps. */
INLINE void columns_of(const op *o, float *arena, const int F)
{
    const int64_t groups = (o->channels + F * LANES - 1) / (F * LANES);
    for (int64_t g = 0; g < groups; g++) {
        const int64_t first = o->start[g], end = o->start[g + 1];
        const float *w = o->weights + first * F * LANES;
        vec sum[MOST];
#pragma GCC unroll 4
        for (int f = 0; f < F; f++) sum[f] = load(o->bias + (g * F + f) * LANES);
        for (int64_t t = first; t < end; t++, w += F * LANES) {
            const vec x = splat(arena[o->offsets[t]]);
#pragma GCC unroll 4
            for (int f = 0; f < F; f++) sum[f] = multiply_add(x, load(w + f * LANES), sum[f]);
        }
#pragma GCC unroll 4
        for (int f = 0; f < F; f++) {
            const int64_t at = (g * F + f) * LANES;
            if (at < o->channels) finish_pixel(o, arena, sum[f], at);
        }
    }
}

static int columns(const op *o, float *arena)
{
    switch (o->block_filters) {
    case 8: columns_of(o, arena, 1); return 0;
    case 16: columns_of(o, arena, 2); return 0;
    case 32: columns_of(o, arena, 4); return 0;
    }
    return -1;
}

/* One pixel of one image: 8 adjacent filters with separate taps. */
static int rows(const op *o, float *arena)
{
    for (int64_t at = 0, g = 0; at < o->channels; at += LANES, g++) {
        vec x = load(o->bias + at);
        for (int64_t t = o->start[g]; t < o->start[g + 1]; t++) {
            const int32_t *p = o->offsets + t * LANES;
            const vec v = {arena[p[0]], arena[p[1]], arena[p[2]], arena[p[3]],
                           arena[p[4]], arena[p[5]], arena[p[6]], arena[p[7]]};
            x = multiply_add(load(o->weights + t * LANES), v, x);
        }
        finish_pixel(o, arena, x, at);
    }
    return 0;
}

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif

/* The values at even indices of 16. */
INLINE vec even(const float *p) { return SHUFFLE(load(p), load(p + LANES), 0, 2, 4, 6, 8, 10, 12, 14); }

/* Every stride-th pixel, from each of the first stride * stride: planes in which a strided tap is a plain tap. */
static int split(const op *o, float *arena)
{
    const int64_t s = o->stride, unit = o->unit;
    for (int64_t c = 0; c < o->channels; c++)
        for (int64_t phase = 0; phase < s * s; phase++) {
            if (!(o->phases >> phase & 1)) continue;
            const int64_t y0 = phase / s, x0 = phase % s;
            int64_t rows = (o->height - y0 + s - 1) / s, columns = (o->width - x0 + s - 1) / s;
            if (rows > o->extent_rows) rows = o->extent_rows;
            if (columns > o->extent_columns) columns = o->extent_columns;
            for (int64_t i = 0; i < rows; i++) {
                const float *p = arena + o->in + c * o->in_plane + (i * s + y0) * o->in_row + x0 * unit;
                float *q = arena + o->out + (c * s * s + phase) * o->out_plane + i * o->out_row;
                if (unit == 1) {
                    int64_t j = 0;
                    if (s == 2)
                        for (; j + LANES <= columns; j += LANES) store(q + j, even(p + 2 * j));
                    for (; j < columns; j++) q[j] = p[s * j];
                } else
                    for (int64_t j = 0; j < columns; j++)
                        for (int64_t u = 0; u < unit; u += LANES) store(q + j * unit + u, load(p + j * s * unit + u));
            }
        }
    return 0;
}

INLINE float larger(float a, float b) { return a > b || a != a ? a : b; }

INLINE vec larger_of(vec a, vec b)
{
    const ivec keep = (ivec)(a > b) | (ivec)(a != a);
    return (vec)(((ivec)a & keep) | ((ivec)b & ~keep));
}

static int max_pool(const op *o, float *arena)
{
    const int64_t s = o->stride, unit = o->unit, size = o->size;
    const int plain = size == 2 && s == 2 && o->padding == 0;
    for (int64_t c = 0; c < o->channels; c++)
        for (int64_t y = 0; y < o->height; y++) {
            const int64_t top = y * s - o->padding;
            const int64_t y0 = top < 0 ? 0 : top, y1 = top + size < o->in_height ? top + size : o->in_height;
            const float *p = arena + o->in + c * o->in_plane;
            float *q = arena + o->out + c * o->out_plane + y * o->out_row;
            int64_t x = 0;
            if (plain && unit == 1 && top + 1 < o->in_height) {
                const float *a = p + top * o->in_row, *b = a + o->in_row;
                for (; 2 * (x + LANES) <= o->in_width; x += LANES)
                    store(q + x, larger_of(larger_of(even(a + 2 * x), even(a + 2 * x + 1)),
                                           larger_of(even(b + 2 * x), even(b + 2 * x + 1))));
                for (; 2 * x + 1 < o->in_width; x++)
                    q[x] = larger(larger(a[2 * x], a[2 * x + 1]), larger(b[2 * x], b[2 * x + 1]));
            }
            for (; x < o->width; x++) {
                const int64_t left = x * s - o->padding;
                const int64_t x0 = left < 0 ? 0 : left, x1 = left + size < o->in_width ? left + size : o->in_width;
                for (int64_t u = 0; u < unit; u += LANES) {
                    if (unit == 1) {
                        float best = p[y0 * o->in_row + x0];
                        for (int64_t i = y0; i < y1; i++)
                            for (int64_t j = x0; j < x1; j++) best = larger(best, p[i * o->in_row + j]);
                        q[x] = best;
                    } else {
                        vec best = load(p + y0 * o->in_row + x0 * unit + u);
                        for (int64_t i = y0; i < y1; i++)
                            for (int64_t j = x0; j < x1; j++)
                                best = larger_of(best, load(p + i * o->in_row + j * unit + u));
                        store(q + x * unit + u, best);
                    }
                }
            }
        }
    return 0;
}

/* Any rearrangement: copies each pixel of the result from its source offset. */
static int gather(const op *o, float *arena)
{
    const int32_t *from = o->offsets;
    for (int64_t c = 0; c < o->channels; c++)
        for (int64_t y = 0; y < o->height; y++) {
            float *q = arena + o->out + c * o->out_plane + y * o->out_row;
            for (int64_t x = 0; x < o->width; x++, from++)
                for (int64_t u = 0; u < o->unit; u++) q[x * o->unit + u] = arena[*from + u];
        }
    return 0;
}

/* Copy an image from the layout of one image to its lane among `unit` images. */
static int interleave(const op *o, float *arena, int64_t lane)
{
    for (int64_t c = 0; c < o->channels; c++)
        for (int64_t y = 0; y < o->height; y++) {
            const float *p = arena + o->in + c * o->in_plane + y * o->in_row;
            float *q = arena + o->out + c * o->out_plane + y * o->out_row + lane;
            for (int64_t x = 0; x < o->width; x++) q[x * o->unit] = p[x];
        }
    return 0;
}

static int load_images(const op *o, float *arena, const float *input)
{
    const int64_t unit = o->unit, size = o->channels * o->height * o->width;
    for (int64_t c = 0; c < o->channels; c++)
        for (int64_t y = 0; y < o->height; y++) {
            const float *p = input + (c * o->height + y) * o->width;
            float *q = arena + o->out + c * o->out_plane + y * o->out_row;
            if (unit == 1)
                memcpy(q, p, o->width * sizeof(float));
            else
                for (int64_t u = 0; u < unit; u++)
                    for (int64_t x = 0; x < o->width; x++) q[x * unit + u] = p[u * size + x];
        }
    return 0;
}

static int store_images(const op *o, const float *arena, float *output)
{
    const int64_t unit = o->unit, size = o->channels * o->height * o->width;
    for (int64_t c = 0; c < o->channels; c++)
        for (int64_t y = 0; y < o->height; y++) {
            const float *p = arena + o->in + c * o->in_plane + y * o->in_row;
            float *q = output + (c * o->height + y) * o->width;
            for (int64_t u = 0; u < unit; u++)
                for (int64_t x = 0; x < o->width; x++) q[u * size + x] = p[x * unit + u];
        }
    return 0;
}

static int run_one(const op *o, float *arena, const float *input, float *output, int64_t lane)
{
    switch (o->kind) {
    case LOAD: return load_images(o, arena, input);
    case STORE: return store_images(o, arena, output);
    case TAPS: return taps(o, arena);
    case BLOCKS: return blocks(o, arena);
    case COLUMNS: return columns(o, arena);
    case ROWS: return rows(o, arena);
    case SPLIT: return split(o, arena);
    case MAX_POOL: return max_pool(o, arena);
    case GATHER: return gather(o, arena);
    case INTERLEAVE: return interleave(o, arena, lane);
    }
    return -1;
}

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

INLINE int run_list(const op *ops, int64_t count, float *arena, const float *input, float *output, int64_t lane,
                    int64_t *nanoseconds)
{
    for (int64_t i = 0; i < count; i++) {
        const int64_t start = nanoseconds ? now() : 0;
        if (run_one(ops + i, arena, input, output, lane)) return -1;
        if (nanoseconds) nanoseconds[i] += now() - start;
    }
    return 0;
}

/* The size of `op`, which must be the same in Python. */
int64_t size_of_op(void) { return sizeof(op); }

/* Run images 0 to count - 1; count is a multiple of the group. The time of each operation is added to `nanoseconds`
   unless it is NULL. */
int run_program(const program *p, const float *input, float *output, int64_t count, float *arena, int64_t *nanoseconds)
{
    for (int64_t n = 0; n < count; n += p->group) {
        if (p->single_count)
            for (int64_t lane = 0; lane < p->group; lane++)
                if (run_list(p->single, p->single_count, arena, input + (n + lane) * p->input_size,
                             output + (n + lane) * p->output_size, lane, nanoseconds))
                    return -1;
        if (p->grouped_count)
            if (run_list(p->grouped, p->grouped_count, arena, input + n * p->input_size, output + n * p->output_size, 0,
                         nanoseconds ? nanoseconds + p->single_count : NULL))
                return -1;
    }
    return 0;
}

/* Return the shortest of `rounds` times of one operation in nanoseconds, or -1 if there is no such operation. */
int64_t time_op(const op *o, float *arena, int64_t repeats, int64_t rounds)
{
    int64_t best = INT64_MAX;
    for (int64_t round = 0; round < rounds; round++) {
        const int64_t start = now();
        for (int64_t i = 0; i < repeats; i++)
            if (run_one(o, arena, NULL, NULL, 0)) return -1;
        const int64_t took = now() - start;
        if (took < best) best = took;
    }
    return best / repeats;
}

INLINE void transpose_8(float *to, int64_t to_row, const float *from, int64_t from_row)
{
    vec a[LANES], b[LANES];
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i++) a[i] = load(from + i * from_row);
#pragma GCC unroll 4
    for (int i = 0; i < LANES; i += 2) {
        b[i] = SHUFFLE(a[i], a[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        b[i + 1] = SHUFFLE(a[i], a[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
#pragma GCC unroll 2
    for (int i = 0; i < LANES; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            a[i + 2 * j] = SHUFFLE(b[i + j], b[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            a[i + 2 * j + 1] = SHUFFLE(b[i + j], b[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        store(to + i * to_row, SHUFFLE(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11));
        store(to + (i + 4) * to_row, SHUFFLE(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15));
    }
}

/* to (columns, rows) = from (rows, columns), transposed. */
static void transpose(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t j = 0; j < columns; j += LANES) {
            if (i + LANES <= rows && j + LANES <= columns)
                transpose_8(to + j * to_row + i, to_row, from + i * from_row + j, from_row);
            else
                for (int64_t c = j; c < columns && c < j + LANES; c++)
                    for (int64_t r = i; r < rows && r < i + LANES; r++) to[c * to_row + r] = from[r * from_row + c];
        }
}

/* One filter on V vectors of tokens. */
INLINE void tokens_block(const tap *t, const tap *end, float bias, const float *turned, int64_t padded, float *strip,
                         const int V)
{
    vec sum[MOST];
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) sum[v] = splat(bias);
    for (; t < end; t++) {
        const float *p = turned + (int64_t)t->offset * padded;
        const vec w = splat(t->weight);
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) sum[v] = multiply_add(w, load(p + v * LANES), sum[v]);
    }
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) store(strip + v * LANES, sum[v]);
}

/* Eight filters on one token, with independent sums. */
INLINE void one_token(const int32_t *start, const tap *taps_, const float *bias, const float *x, float *y)
{
    float sum[LANES];
    int32_t common = INT32_MAX;
    for (int i = 0; i < LANES; i++) {
        const int32_t count = start[i + 1] - start[i];
        common = count < common ? count : common;
        sum[i] = bias[i];
    }
    for (int32_t t = 0; t < common; t++)
#pragma GCC unroll 8
        for (int i = 0; i < LANES; i++) {
            const tap *p = taps_ + start[i] + t;
            sum[i] = __builtin_fmaf(p->weight, x[p->offset], sum[i]);
        }
    for (int i = 0; i < LANES; i++) {
        for (const tap *p = taps_ + start[i] + common; p < taps_ + start[i + 1]; p++)
            sum[i] = __builtin_fmaf(p->weight, x[p->offset], sum[i]);
        y[i] = sum[i];
    }
}

#define TOKEN_BLOCK 64 /* tokens that are transposed at once: one vector per accumulator */
#define FILTER_BLOCK 16 /* filters whose results are transposed at once: one cache line per token */
#define FEW_TOKENS 3

/* The number of floats that `linear_taps` needs as scratch memory. */
int64_t linear_scratch(int64_t inputs) { return (inputs + FILTER_BLOCK) * TOKEN_BLOCK; }

/* y (tokens, outputs) = x (tokens, inputs) W^T + bias, for the outputs `first` to `last` - 1. The offsets of taps are
   input indices. */
void linear_taps(const int32_t *start, const tap *taps_, const float *bias, const float *x, float *y, int64_t tokens,
                 int64_t inputs, int64_t outputs, int64_t first, int64_t last, float *scratch)
{
    float *turned = scratch, *strip = scratch + inputs * TOKEN_BLOCK;
    if (tokens <= FEW_TOKENS) {
        for (; first + LANES <= last; first += LANES)
            for (int64_t t = 0; t < tokens; t++)
                one_token(start + first, taps_, bias + first, x + t * inputs, y + t * outputs + first);
        if (first == last) return;
    }
    for (int64_t token = 0; token < tokens; token += TOKEN_BLOCK) {
        const int64_t count = tokens - token < TOKEN_BLOCK ? tokens - token : TOKEN_BLOCK;
        const int64_t vectors = (count + LANES - 1) / LANES, padded = vectors * LANES;
        transpose(turned, padded, x + token * inputs, inputs, count, inputs);
        for (int64_t f = first; f < last; f += FILTER_BLOCK) {
            const int64_t filters = last - f < FILTER_BLOCK ? last - f : FILTER_BLOCK;
            for (int64_t k = f; k < f + filters; k++) {
                const tap *t = taps_ + start[k], *end = taps_ + start[k + 1];
                float *s = strip + (k - f) * padded;
                switch (vectors) {
#define CASE(V) case V: tokens_block(t, end, bias[k], turned, padded, s, V); break;
                    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
                }
            }
            transpose(y + token * outputs + f, outputs, strip, padded, filters, count);
        }
    }
}
