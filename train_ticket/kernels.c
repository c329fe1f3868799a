/* Products with weights that are generated inside the loop: the paths of a CPU */
#include "kernels_weights.h"
#include "kernels_pool.h"

typedef struct { signs_function *signs; tables_function *tables; lookup_function *lookup; steps_function *steps; } path;
typedef struct { bits plus[CHUNK/LANES], minus[CHUNK/LANES]; table tables[4*QUADS]; float padded[BLOCK]; } workspace;

int tt_instructions(void) {   /* 0: portable, 1: AVX2, 2: AVX-512 */
#ifdef HAVE_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) return 2;
    if (__builtin_cpu_supports("avx2")) return 1;
#endif
    return 0;
}
/* NULL where there are no more instruction sets */
const char *tt_instruction_name(int instructions) {
    static const char *names[] = { "plain C", "AVX2", "AVX-512" };
    return instructions >= 0 && instructions < 3 ? names[instructions] : NULL;
}
static path path_of(int instructions) {
#ifdef HAVE_X86
    if (instructions == 2) return (path){ signs_avx512, tables_avx512, lookup_avx512, steps_avx512 };
    if (instructions == 1) return (path){ signs_avx2, tables_avx2, lookup_avx2, steps_avx2 };
#endif
    return (path){ signs_portable, tables_portable, lookup_portable, steps_portable };
}
typedef struct { const float *x; int64_t batch, fan_in, out; float unit, *y; } product;

/* y[begin…end, first…last] += one block of columns */
static void block_sums(const product *z, path f, workspace *s, int b, int64_t start, int64_t first, int64_t last, int64_t begin, int64_t end) {
    const int groups = (int)((last - first + LANES - 1)/LANES), columns = (int)MIN(BLOCK, z->fan_in - start);
    for (int64_t j = begin; j < end; ) {
        const int inputs = end - j >= 4 ? 4 : 1, step = 4/inputs;
        for (int i = 0; i < inputs; i++) {
            const float *x = z->x + (j + i)*z->fan_in + start;
            if (columns < BLOCK) { memset(s->padded, 0, sizeof s->padded); memcpy(s->padded, x, columns*sizeof *x); x = s->padded; }
            f.tables(x, s->tables + i*QUADS);
        }
        for (int h = 0; h < groups; h += step)
            f.lookup(s->plus + h, s->minus + h, b, MIN(step, groups - h), inputs, s->tables, (target){ z->y + j*z->out + first + h*LANES, z->out, last - first - h*LANES });
        j += inputs;
    }
}
static void item(const generator *g, const product *z, path f, const planes *m, int64_t first, int64_t last, int64_t begin, int64_t end) {
    workspace space __attribute__((aligned(64)));
    for (int64_t j = begin; j < end; j++) memset(z->y + j*z->out + first, 0, (last - first)*sizeof *z->y);
    for (int64_t line = 0; line*LINE_COLUMNS < z->fan_in; line++) {
        for (int64_t h = 0; first + h*LANES < last; h++) f.signs(g, m, (uint32_t)(first + h*LANES), (uint32_t)line, space.plus[h], space.minus[h]);
        for (int b = 0; b < LINE && line*LINE_COLUMNS + b*BLOCK < z->fan_in; b++)
            block_sums(z, f, &space, b, line*LINE_COLUMNS + b*BLOCK, first, last, begin, end);
    }
    for (int64_t j = begin; j < end; j++) for (int64_t i = first; i < last; i++) z->y[j*z->out + i] *= z->unit;
}

typedef struct { generator g; product z; path f; planes m; int64_t down, chunk, slab; } linear_job;
static void linear_item(const void *data, int64_t i) {
    const linear_job *t = data;
    const int64_t first = i%t->down*t->chunk, begin = i/t->down*t->slab;
    item(&t->g, &t->z, t->f, &t->m, first, MIN(t->m.rows, first + t->chunk), begin, MIN(t->z.batch, begin + t->slab));
}
static void linear(generator g, planes m, product z, int threads, int instructions) {
    const int64_t share = (m.rows + threads - 1)/threads;
    const int64_t chunk = MIN(CHUNK, (share + LANES - 1)/LANES*LANES), slab = 512;
    const int64_t down = (m.rows + chunk - 1)/chunk;
    const linear_job t = { g, z, path_of(instructions), m, down, chunk, slab };
    parallel(linear_item, &t, down*((z.batch + slab - 1)/slab), threads);
}
/* y = unit·x·(mask ⊙ signs)ᵀ, with signs from the generator */
void tt_linear(const float *x, int64_t batch, int64_t fan_in, const uint8_t *mask, int64_t out,
               uint64_t seed, uint32_t layer, float unit, float *y, int threads, int instructions) {
    const planes m = { mask, NULL, (fan_in + 31)/32*4, out };
    const product z = { x, batch, fan_in, out, unit, y };
    linear(generator_of(seed, layer, 0, 0), m, z, threads, instructions);
}
/* The same with stored signs: a second plane of bits, 1 for plus */
void tt_linear_packed(const float *x, int64_t batch, int64_t fan_in, const uint8_t *kept,
                      const uint8_t *sign, int64_t out, float unit, float *y, int threads, int instructions) {
    const planes m = { kept, sign, (fan_in + 31)/32*4, out };
    const product z = { x, batch, fan_in, out, unit, y };
    linear(generator_of(0, 0, 0, 0), m, z, threads, instructions);
}
typedef struct { generator g; path f; int64_t count, fan_in; float unit, *w; } weights_job;
static void weights_item(const void *data, int64_t i) {
    const weights_job *t = data;
    if (t->g.stream == 0) signed_rows(&t->g, t->f.signs, i*LANES, t->count, t->fan_in, t->unit, t->w);
    else t->f.steps(&t->g, i*LANES, t->count, t->fan_in, t->unit, t->w);
}
/* w[0…count) = the weights of the rows base…base + count */
void tt_weights(int64_t base, int64_t count, int64_t fan_in, uint64_t seed, uint32_t layer, uint32_t stream, float unit, float *w, int threads, int instructions) {
    const weights_job t = { generator_of(seed, layer, stream, (uint32_t)base), path_of(instructions), count, fan_in, unit, w };
    parallel(weights_item, &t, (count + LANES - 1)/LANES, threads);
}
