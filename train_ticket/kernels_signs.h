#pragma once
#include "kernels_philox.h"
typedef uint32_t bits[LINE*WORDS][LANES];                              /* 512 columns of sixteen rows, transposed */
typedef struct { const uint8_t *bytes; int64_t stride, rows; } mask_view;  /* bytes == NULL: everything is kept */
typedef void signs_function(const generator *, uint32_t first, uint32_t line, const mask_view *, bits plus, bits minus);

INLINE void kept_rows(uint32_t first, uint32_t line, const mask_view *m, uint32_t kept[LANES][LINE*WORDS]) {
    const int64_t offset = (int64_t)line*(LINE_COLUMNS/8), count = MIN(LINE_COLUMNS/8, m->stride - offset);
    for (int i = 0; i < LANES; i++) {
        const uint8_t *source = m->bytes + (first + i)*m->stride + offset;
        const int there = m->bytes && first + i < m->rows;
        if (!there || count < LINE_COLUMNS/8) memset(kept[i], m->bytes ? 0 : 255, sizeof kept[i]);
        if (there && count < LINE_COLUMNS/8) memcpy(kept[i], source, count);
        if (there && count == LINE_COLUMNS/8) {   /* a size that the compiler knows: two loads, no call */
            memcpy(kept[i], source, LINE_COLUMNS/8);
            __builtin_prefetch(source + 128, 0, 2);   /* two lines on in this row */
            if (line) continue;
            __builtin_prefetch(source + 64*m->stride, 0, 2);   /* the first two of a row further down */
            __builtin_prefetch(source + 64*m->stride + 64, 0, 2);
        }
    }
}
INLINE void signs_any(const generator *g, uint32_t first, uint32_t line, const mask_view *m, bits plus, bits minus) {
    const rows r = rows_of(g, first);
    uint32_t kept[LANES][LINE*WORDS];
    kept_rows(first, line, m, kept);
    for (int b = 0; b < LINE; b++) {
        uint32_t word[WORDS][LANES];
        words_of(g, &r, column_of(g, line*LINE + b), word);
        for (int k = 0; k < WORDS; k++) for (int i = 0; i < LANES; i++) {
            plus[b*WORDS + k][i] = kept[i][b*WORDS + k] & word[k][i];
            minus[b*WORDS + k][i] = kept[i][b*WORDS + k] & ~word[k][i];
        }
    }
}
static void signs_portable(const generator *g, uint32_t first, uint32_t line, const mask_view *m, bits plus, bits minus) { signs_any(g, first, line, m, plus, minus); }
