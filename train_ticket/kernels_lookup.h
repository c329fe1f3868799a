/* Sums by tables: four inputs have sixteen subset sums, and four bits of a row select one of them.
   Every path adds in this order, so all give the same bits: the inputs of a table, one after the other; for
   a row and a block of 128 columns the 32 differences table[plus] - table[minus]; then the blocks */
#pragma once
#include "kernels_signs.h"
typedef float table[16];
typedef void tables_function(const float *x, table *t);        /* 128 inputs → 32 tables */
typedef struct { float *y; int64_t stride, rows; } target;     /* y[input·stride + row], for row < rows */

/* One block's part of y, for groups of sixteen rows and one or four inputs */
typedef void lookup_function(const bits *plus, const bits *minus, int block, int groups, int inputs,
                             const table *tables, target to);

static void tables_portable(const float *x, table *t) {
    for (int q = 0; q < QUADS; q++, x += 4)
        for (int i = 0; i < 16; i++) {
            float sum = i & 1 ? x[0] : 0;
            if (i & 2) sum += x[1];
            if (i & 4) sum += x[2];
            if (i & 8) sum += x[3];
            t[q][i] = sum;
        }
}

INLINE void add_to(target to, int group, int input, const float sum[LANES]) {
    float *y = to.y + input*to.stride + group*LANES;
    for (int64_t i = 0; i < MIN(LANES, to.rows - group*LANES); i++) y[i] += sum[i];
}
INLINE void sums_of(const uint32_t (*plus)[LANES], const uint32_t (*minus)[LANES], const table *t,
                    float sum[LANES]) {
    for (int k = 0; k < WORDS; k++)
        for (int shift = 0; shift < 32; shift += 4, t++)
            for (int i = 0; i < LANES; i++)
                sum[i] += (*t)[plus[k][i] >> shift & 15] - (*t)[minus[k][i] >> shift & 15];
}
static void lookup_portable(const bits *plus, const bits *minus, int block, int groups, int inputs,
                            const table *tables, target to) {
    for (int h = 0; h < groups; h++)
        for (int j = 0; j < inputs; j++) {
            float sum[LANES] = { 0 };
            sums_of(plus[h] + block*WORDS, minus[h] + block*WORDS, tables + j*QUADS, sum);
            add_to(to, h, j, sum);
        }
}
