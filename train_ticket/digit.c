/* The engine: weights come from the seed while they are used, masks from their codes. */
#include <stdint.h>
#if TT_ADAPTIVE
#include "adaptive.h"
#endif

#if TT_FLOAT
typedef float tt_value, tt_sum;
#else
typedef uint8_t tt_value;
typedef int32_t tt_sum;
#endif

/* A linear layer or a convolution with its pooling and its ReLU. */
typedef struct {
    uint32_t layer, code, code_size;        /* the generator's number of the layer; its part of tt_masks */
    uint16_t in, out, scratch;              /* places in the arena, in bytes */
    uint16_t height, width, outputs, out_height, out_width;     /* of the input, then of the output */
    uint16_t groups, fan_in, group_channels;
    uint8_t linear, image, coded, row;      /* image: it reads the image; row: columns per row of an image */
    uint8_t kernel_height, kernel_width, stride, padding, pool, pool_stride;
    uint8_t average, relu_first, relu, shift;
    float unit;                             /* what whole numbers are multiplied by */
} tt_stage;

typedef struct { int16_t weight; uint16_t offset; uint8_t y, x, zero; } tt_tap;

/* TABLES */
static uint32_t tt_arena[(TT_ARENA + 3)/4];

typedef struct {
    const tt_stage *stage;
    uint32_t words[4], row, column, bit;
#if TT_ADAPTIVE
    tt_model model;
    tt_coder coder;
#endif
} tt_reader;

static uint32_t tt_high(uint32_t a, uint32_t b) {       /* the upper half of a product */
    uint32_t low = (a & 0xFFFF)*(b & 0xFFFF), middle = (a >> 16)*(b & 0xFFFF);
    uint32_t other = (a & 0xFFFF)*(b >> 16) + (low >> 16) + (middle & 0xFFFF);
    return (a >> 16)*(b >> 16) + (middle >> 16) + (other >> 16);
}

static void tt_philox(tt_reader *r, uint32_t a) {       /* Philox4x32-10: the words of a block of a row */
    uint32_t b = r->row, c = r->stage->layer, d = TT_STREAM, k0 = TT_SEED_LOW, k1 = TT_SEED_HIGH;
    for (int round = 0; round < 10; round++) {
        uint32_t p = tt_high(a, 0xD2511F53), q = tt_high(c, 0xCD9E8D57), low = a*0xD2511F53;
        a = q ^ b ^ k0;
        b = c*0xCD9E8D57;
        c = p ^ d ^ k1;
        d = low;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    r->words[0] = a;
    r->words[1] = b;
    r->words[2] = c;
    r->words[3] = d;
}

static int tt_whole(const uint32_t *words, uint32_t at) {   /* a frozen weight as a whole number */
#if TT_STREAM == 0
    return (words[at >> 5] >> (at & 31) & 1) ? 1 : -1;
#elif TT_STREAM == 1
    return 2*(int)(words[at >> 2] >> 8*(at & 3) & 255) - 255;
#else
    uint32_t w = words[at];
    return (int)((w & 255) + (w >> 8 & 255) + (w >> 16 & 255) + (w >> 24)) - 510;
#endif
}

static void tt_open_layer(tt_reader *r, const tt_stage *s) {
    r->stage = s;
    r->bit = 0;
    r->row = (uint32_t)-1;
#if TT_ADAPTIVE
    tt_begin(&r->model, (tt_belief *)((uint8_t *)tt_arena + s->scratch), s->coded ? s->fan_in : 0, s->row);
    tt_open(&r->coder, tt_masks + s->code, s->code_size);
#endif
}

static void tt_next_row(tt_reader *r) {
    r->row++;
    r->column = 0;
#if TT_ADAPTIVE
    tt_begin_row(&r->model);
#endif
}

static int tt_next(tt_reader *r) {                      /* the next weight of the row, 0 where it is not kept */
    uint32_t at = r->column & (TT_PER_BLOCK - 1);
    if (!at) tt_philox(r, r->column/TT_PER_BLOCK);
    r->column++;
    int whole = tt_whole(r->words, at), kept;
#if TT_ADAPTIVE
    if (r->stage->coded) kept = tt_kept(&r->model, &r->coder, whole > 0 ? 1 : -1);
    else
#endif
    {
        kept = tt_masks[r->stage->code + (r->bit >> 3)] >> (r->bit & 7) & 1;
        r->bit++;
    }
    return kept ? whole : 0;
}

static void tt_store(const tt_stage *s, uint32_t at, tt_sum sum, tt_sum *scores) {
    tt_value *out = (tt_value *)((uint8_t *)tt_arena + s->out);
#if TT_FLOAT
    sum *= s->unit;
#endif
    if (s->relu && sum < 0) sum = 0;
    if (s == &tt_stages[TT_STAGES - 1]) {
        scores[at] = sum;
        return;
    }
#if !TT_FLOAT
    sum = (sum + ((tt_sum)1 << s->shift >> 1)) >> s->shift;
    if (sum > 255) sum = 255;
#endif
    out[at] = sum;
}

static void tt_linear(tt_reader *r, const tt_value *in, tt_sum *scores) {
    const tt_stage *s = r->stage;
    for (uint32_t o = 0; o < s->outputs; o++) {
        tt_sum sum = 0;
        tt_next_row(r);
        for (uint32_t c = 0; c < s->fan_in; c++) {
            int weight = tt_next(r);
            if (weight) sum += weight*((tt_sum)in[c] - TT_ZERO(s, c));
        }
        tt_store(s, o, sum, scores);
    }
}

static uint32_t tt_taps(tt_reader *r, tt_tap *taps) {   /* the kept weights of a kernel; how many */
    const tt_stage *s = r->stage;
    uint32_t count = 0, plane = (uint32_t)s->height*s->width;
    tt_next_row(r);
    for (uint32_t c = 0; c < s->group_channels; c++)
        for (uint32_t y = 0; y < s->kernel_height; y++)
            for (uint32_t x = 0; x < s->kernel_width; x++) {
                int weight = tt_next(r);
                if (!weight) continue;
                tt_tap tap = {weight, c*plane + y*s->width + x, y, x, TT_ZERO(s, c*plane)};
                taps[count++] = tap;
            }
    return count;
}

static tt_sum tt_at(const tt_stage *s, const tt_tap *tap, uint32_t count, const tt_value *in, int y, int x) {
    tt_sum sum = 0;
    for (in += y*s->width + x; count--; tap++)
        if (!s->padding || ((unsigned)(y + tap->y) < s->height && (unsigned)(x + tap->x) < s->width))
            sum += tap->weight*((tt_sum)in[tap->offset] - tap->zero);
    return sum;
}

static tt_sum tt_pooled(const tt_stage *s, const tt_tap *taps, uint32_t count, const tt_value *in, int y, int x) {
    tt_sum best = 0;
    for (int dy = 0; dy < s->pool; dy++)
        for (int dx = 0; dx < s->pool; dx++) {
            int top = (y*s->pool_stride + dy)*s->stride - s->padding;
            int left = (x*s->pool_stride + dx)*s->stride - s->padding;
            tt_sum sum = tt_at(s, taps, count, in, top, left);
            if (s->relu_first && sum < 0) sum = 0;
            if (s->average) best += sum;
            else if ((!dy && !dx) || sum > best) best = sum;
        }
    return best;
}

static void tt_convolution(tt_reader *r, const tt_value *in, tt_sum *scores) {
    const tt_stage *s = r->stage;
    tt_tap *taps = (tt_tap *)((uint8_t *)tt_arena + s->scratch + (s->coded ? 4*s->fan_in : 0));
    uint32_t at = 0, each = s->outputs/s->groups;
    for (uint32_t o = 0; o < s->outputs; o++) {
        uint32_t count = tt_taps(r, taps);
        const tt_value *group = in + o/each*s->group_channels*s->height*s->width;
        for (int y = 0; y < s->out_height; y++)
            for (int x = 0; x < s->out_width; x++)
                tt_store(s, at++, tt_pooled(s, taps, count, group, y, x), scores);
    }
}

/* The scores of the classes. image: TT_CHANNELS planes of bytes. */
void digit_scores(const uint8_t *image, tt_sum *scores) {
    tt_reader reader;
    const tt_value *in = (const tt_value *)image;
#if TT_FLOAT
    float *first = (float *)((uint8_t *)tt_arena + tt_stages[0].in);
    for (uint32_t i = 0; i < TT_CHANNELS*TT_PLANE; i++)
        first[i] = (image[i]/255.f - tt_means[i/TT_PLANE])/tt_deviations[i/TT_PLANE];
    in = first;
#endif
    for (const tt_stage *s = tt_stages; s < tt_stages + TT_STAGES; s++) {
        tt_open_layer(&reader, s);
        if (s != tt_stages) in = (const tt_value *)((uint8_t *)tt_arena + s->in);
        if (s->linear) tt_linear(&reader, in, scores);
        else tt_convolution(&reader, in, scores);
    }
}

/* The class of an image. */
int digit_class(const uint8_t *image) {
    tt_sum scores[TT_CLASSES];
    int best = 0;
    digit_scores(image, scores);
    for (int i = 1; i < TT_CLASSES; i++)
        if (scores[i] > scores[best]) best = i;
    return best;
}
