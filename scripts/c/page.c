/* What the page that classifies drawings calls: digit.c and the weights behind its decisions. */
#include "digit.c"

static uint8_t page_image[TT_CHANNELS*TT_HEIGHT*TT_WIDTH];
static tt_sum page_scores[TT_CLASSES];
static int8_t page_weights[TT_MOST_WEIGHTS];

__attribute__((export_name("image"))) uint8_t *image(void) { return page_image; }
__attribute__((export_name("stages"))) int stages(void) { return TT_STAGES; }
__attribute__((export_name("fan_in"))) int fan_in(int stage) { return tt_stages[stage].fan_in; }
__attribute__((export_name("outputs"))) int outputs(int stage) { return tt_stages[stage].outputs; }

__attribute__((export_name("scores"))) tt_sum *scores(void) {
    digit_scores(page_image, page_scores);
    return page_scores;
}

/* -1, 0 or +1 for each weight of a stage. */
__attribute__((export_name("weights"))) int8_t *weights(int stage) {
    tt_reader reader;
    int8_t *at = page_weights;
    tt_open_layer(&reader, &tt_stages[stage]);
    for (int o = 0; o < tt_stages[stage].outputs; o++) {
        tt_next_row(&reader);
        for (int c = 0; c < tt_stages[stage].fan_in; c++) {
            int weight = tt_next(&reader);
            *at++ = weight > 0 ? 1 : weight < 0 ? -1 : 0;
        }
    }
    return page_weights;
}
