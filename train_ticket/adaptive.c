/* Whole masks: what the notebook 05_adaptive calls. */
#include "adaptive.h"

typedef struct { const uint8_t *signs; int64_t rows, fan_in; int width; } tt_layer;

/* The mask of a layer, one byte for each weight. */
void tt_decode_mask(const uint8_t *data, int64_t size, const tt_layer *layer, tt_belief *columns, uint8_t *mask) {
    tt_model model;
    tt_coder coder;
    const uint8_t *sign = layer->signs;
    tt_begin(&model, columns, layer->fan_in, layer->width);
    tt_open(&coder, data, size);
    for (int64_t r = 0; r < layer->rows; r++) {
        tt_begin_row(&model);
        for (int64_t c = 0; c < layer->fan_in; c++) *mask++ = tt_kept(&model, &coder, *sign++ ? 1 : -1);
    }
}

/* The code of a mask. Returns its size, or -1 where it does not fit into so many bytes. */
int64_t tt_encode_mask(const uint8_t *mask, const tt_layer *layer, tt_belief *columns, uint8_t *data, int64_t room) {
    tt_model model;
    tt_coder coder = {0, 0xFFFFFFFF, 0, 0, 0};
    const uint8_t *sign = layer->signs;
    int64_t size = 0;
    tt_begin(&model, columns, layer->fan_in, layer->width);
    for (int64_t r = 0; r < layer->rows; r++) {
        tt_begin_row(&model);
        for (int64_t c = 0; c < layer->fan_in; c++) {
            int which = *sign++ ? 1 : -1, kept = *mask++;
            uint32_t p = tt_predict(&model, which);
            tt_narrow(&coder, p, kept);
            for (; !((coder.low ^ coder.high) >> 24); tt_shift(&coder)) {
                if (size == room) return -1;
                data[size++] = coder.high >> 24;
            }
            tt_learn(&model, which, kept, p);
        }
    }
    if (coder.low) {                            /* the shortest number from low to high */
        if (size == room) return -1;
        data[size++] = (coder.low >> 24) + 1;
    }
    while (size && !data[size - 1]) size--;
    return size;
}
