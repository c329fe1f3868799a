/* Products with masked signed weights, signs generated in the loop or stored: entry points and work items */
#include "kernels_weights.h"
#include "kernels_pool.h"

/* The functions of one instruction set. Later ones in the list are faster */
typedef struct {
    const char *name;
    signs_function *signs;
    tables_function *tables;
    lookup_function *lookup;
} path;
static const path paths[] = {
    { "plain C", signs_portable, tables_portable, lookup_portable },
#ifdef HAVE_X86
    { "AVX2", signs_avx2, tables_avx2, lookup_avx2 },
    { "AVX-512", signs_avx512, tables_avx512, lookup_avx512 },
#elif defined(HAVE_NEON)
    { "NEON", signs_neon, tables_neon, lookup_neon },
#endif
};
enum { PATHS = sizeof paths/sizeof *paths };

/* The last path that this processor can run */
int tt_instructions(void) {
#ifdef HAVE_X86
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") ? 2 : 1;
#else
    return PATHS - 1;
#endif
}
/* NULL where there is no such path */
const char *tt_instruction_name(int instructions) {
    return instructions >= 0 && instructions < PATHS ? paths[instructions].name : NULL;
}

/* y = unit·x·(kept ⊙ signs)ᵀ. A work item is some rows of the matrix (a chunk) and some of x (a slab) */
typedef struct {
    generator g;
    planes bits;
    const float *x;
    int64_t batch, fan_in;
    float unit, *y;
    const path *path;
    int64_t chunk, chunks;
} product;
enum { SLAB = 512 };
typedef struct {
    rows rows[CHUNK/LANES];
    bits plus[CHUNK/LANES], minus[CHUNK/LANES];
    table tables[4*QUADS];
    float padded[BLOCK];
} workspace;
typedef struct { int64_t begin, end; } range;

/* The tables of one block of an input */
static void block_tables(const product *z, workspace *s, int64_t input, int64_t start, table *to) {
    const float *x = z->x + input*z->fan_in + start;
    const int64_t columns = MIN(BLOCK, z->fan_in - start);
    if (columns < BLOCK) {
        memset(s->padded, 0, sizeof s->padded);
        memcpy(s->padded, x, columns*sizeof *x);
        x = s->padded;
    }
    z->path->tables(x, to);
}
/* No hardware prefetcher follows hundreds of rows */
static void prefetch(const planes *p, int64_t line, range rows) {
    const int64_t offset = line*LINE_BYTES;
    if (offset >= p->stride) return;
    for (int64_t i = rows.begin; i < rows.end; i++) {
        __builtin_prefetch(p->kept + i*p->stride + offset, 0, 2);
        if (p->sign) __builtin_prefetch(p->sign + i*p->stride + offset, 0, 2);
    }
}
/* y[inputs, rows] += block b of this line, by four inputs while there are four, then by one. Each of the
   four blocks also prefetches a quarter of the next line's bits, so that the loop does not wait for memory */
static void block_sums(const product *z, workspace *s, int64_t line, int b, range rows, range inputs) {
    const int64_t start = line*LINE_COLUMNS + b*BLOCK, groups = (rows.end - rows.begin + LANES - 1)/LANES;
    for (int64_t j = inputs.begin, count; j < inputs.end; j += count) {
        count = inputs.end - j >= 4 ? 4 : 1;
        for (int i = 0; i < count; i++) block_tables(z, s, j + i, start, s->tables + i*QUADS);
        for (int64_t h = 0; h < groups; h += 4/count) {
            const int64_t row = rows.begin + h*LANES, quarter = LANES/count, ahead = row + b*quarter;
            if (j == inputs.begin)
                prefetch(&z->bits, line + 1, (range){ ahead, MIN(rows.end, ahead + quarter) });
            const target to = { z->y + j*z->bits.rows + row, z->bits.rows, rows.end - row };
            const int together = (int)MIN(4/count, groups - h);
            z->path->lookup(s->plus + h, s->minus + h, b, together, (int)count, s->tables, to);
        }
    }
}
static void product_item(const void *data, int64_t item) {
    const product *z = data;
    const int64_t first = item%z->chunks*z->chunk, begin = item/z->chunks*SLAB;
    const range rows = { first, MIN(z->bits.rows, first + z->chunk) };
    const range inputs = { begin, MIN(z->batch, begin + SLAB) };
    workspace space __attribute__((aligned(64)));
    prefetch(&z->bits, 0, rows);
    for (int64_t row = first, h = 0; row < rows.end; row += LANES, h++)
        space.rows[h] = rows_of(&z->g, (uint32_t)row);
    for (int64_t j = inputs.begin; j < inputs.end; j++)
        memset(z->y + j*z->bits.rows + first, 0, (rows.end - first)*sizeof *z->y);
    for (int64_t line = 0; line*LINE_COLUMNS < z->fan_in; line++) {
        for (int64_t row = first, h = 0; row < rows.end; row += LANES, h++)
            z->path->signs(&z->g, &space.rows[h], &z->bits, row, line, space.plus[h], space.minus[h]);
        for (int b = 0; b < blocks_of(&z->bits, line); b++)
            block_sums(z, &space, line, b, rows, inputs);
    }
    for (int64_t j = inputs.begin; j < inputs.end; j++)
        for (int64_t i = first; i < rows.end; i++) z->y[j*z->bits.rows + i] *= z->unit;
}
static void run(product z, int threads, int instructions) {
    const int64_t share = (z.bits.rows + threads - 1)/threads;
    z.path = &paths[instructions];
    z.chunk = MIN(CHUNK, (share + LANES - 1)/LANES*LANES);
    z.chunks = (z.bits.rows + z.chunk - 1)/z.chunk;
    parallel(product_item, &z, z.chunks*((z.batch + SLAB - 1)/SLAB), threads);
}
/* Signs from the generator. x [batch, fan_in], mask [out, fan_in bits in 32-bit words], y [batch, out] */
void tt_linear(const float *x, int64_t batch, int64_t fan_in, const uint8_t *mask, int64_t out,
               uint64_t seed, uint32_t layer, float unit, float *y, int threads, int instructions) {
    const planes bits = { mask, NULL, (fan_in + 31)/32*4, out };
    const product z = { generator_of(seed, layer, SIGNED, 0), bits, x, batch, fan_in, unit, y, 0, 0, 0 };
    run(z, threads, instructions);
}
/* Signs from a second plane of bits, 1 for plus. Adds in the same order, so equal signs give equal results */
void tt_linear_packed(const float *x, int64_t batch, int64_t fan_in, const uint8_t *kept,
                      const uint8_t *sign, int64_t out, float unit, float *y, int threads, int instructions) {
    const planes bits = { kept, sign, (fan_in + 31)/32*4, out };
    const product z = { generator_of(0, 0, SIGNED, 0), bits, x, batch, fan_in, unit, y, 0, 0, 0 };
    run(z, threads, instructions);
}

typedef struct { generator g; signs_function *signs; strip all; } weights_job;
static void weights_item(const void *data, int64_t item) {
    const weights_job *t = data;
    strip s = t->all;
    s.first = item*LANES;
    if (t->g.stream == SIGNED) signed_rows(&t->g, t->signs, &s);
    else uniform_or_normal_rows(&t->g, &s);
}
/* w[0…count) = the weights of the rows base…base + count. stream 0: signs, 1: uniform, 2: normal */
void tt_weights(int64_t base, int64_t count, int64_t fan_in, uint64_t seed, uint32_t layer, uint32_t stream,
                float unit, float *w, int threads, int instructions) {
    const generator g = generator_of(seed, layer, stream, (uint32_t)base);
    const weights_job t = { g, paths[instructions].signs, { 0, count, fan_in, unit, w } };
    parallel(weights_item, &t, (count + LANES - 1)/LANES, threads);
}
