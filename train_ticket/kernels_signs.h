/* Which weights are kept with a plus and which with a minus, for sixteen rows and 512 columns at a time */
#pragma once
#include "kernels_philox.h"
typedef uint32_t bits[LINE*WORDS][LANES];            /* 512 columns of sixteen rows: bits[word][row] */
typedef uint32_t row_words[LANES][LINE*WORDS];       /* the same, as memory holds it: row_words[row][word] */

/* Bit planes, packed by rows. kept == NULL: all weights are kept. sign == NULL: the generator makes the signs */
typedef struct { const uint8_t *kept, *sign; int64_t stride, rows; } planes;
typedef void signs_function(const generator *, const planes *, uint32_t first, uint32_t line,
                            bits plus, bits minus);

/* No hardware prefetcher follows hundreds of rows, so a row asks for its own line that comes two later,
   and at its first line for the first two of a row further down */
INLINE void prefetch_row(const uint8_t *source, uint32_t line, int64_t stride) {
    __builtin_prefetch(source + 128, 0, 2);
    if (line) return;
    __builtin_prefetch(source + 64*stride, 0, 2);
    __builtin_prefetch(source + 64*stride + 64, 0, 2);
}

/* One plane's words. Rows below the last and columns right of the last are zeros */
INLINE void load_rows(const uint8_t *plane, const planes *p, uint32_t first, uint32_t line, row_words to) {
    const int64_t offset = (int64_t)line*(LINE_COLUMNS/8), count = MIN(LINE_COLUMNS/8, p->stride - offset);
    for (int i = 0; i < LANES; i++) {
        const uint8_t *source = plane + (first + i)*p->stride + offset;
        if (first + i >= p->rows) memset(to[i], 0, sizeof to[i]);
        else if (count == LINE_COLUMNS/8) {   /* a size that the compiler knows: no call */
            memcpy(to[i], source, LINE_COLUMNS/8);
            prefetch_row(source, line, p->stride);
        } else {
            memset(to[i], 0, sizeof to[i]);
            memcpy(to[i], source, count);
        }
    }
}
INLINE void load_kept(const planes *p, uint32_t first, uint32_t line, row_words to) {
    if (p->kept) load_rows(p->kept, p, first, line, to);
    else memset(to, 255, sizeof(row_words));
}

INLINE void split(uint32_t kept, uint32_t sign, uint32_t *plus, uint32_t *minus) {
    *plus = kept & sign;
    *minus = kept & ~sign;
}
static void signs_portable(const generator *g, const planes *p, uint32_t first, uint32_t line,
                           bits plus, bits minus) {
    const rows r = rows_of(g, first);
    row_words kept, sign;
    load_kept(p, first, line, kept);
    if (p->sign) load_rows(p->sign, p, first, line, sign);
    for (int b = 0; b < LINE; b++) {
        uint32_t word[WORDS][LANES];
        if (!p->sign) words_of(g, &r, column_of(g, line*LINE + b), word);
        for (int k = 0; k < WORDS; k++)
            for (int i = 0; i < LANES; i++) {
                const int w = b*WORDS + k;
                split(kept[i][w], p->sign ? sign[i][w] : word[k][i], &plus[w][i], &minus[w][i]);
            }
    }
}
