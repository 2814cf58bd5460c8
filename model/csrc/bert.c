/* A BERT encoder over texts laid end to end, without padding: each thread takes a few texts through all layers, so that
 * threads never wait for each other and what they work on stays in their own cache.
 *
 * Products with weights are those of packed.c (activations rounded to int8 per 32 values); attention multiplies in bf16
 * where it can; all else is fp32. The plain version is `DenseEncoder` in bert.py. Letters: T tokens, L length of a text, D d_model, F d_ff, H heads, hd head_dim.
 */
#include "vectors.h"

enum { ROWS = 6, PANEL = 64, FEED_TOKENS = 96 };

/* packed.c; `weight` is its Packed. */
int ll_packed_linear(const void *x, int64_t n_given, const void *weight, const float *bias, void *y, int64_t n_rows, int64_t T,
                     int dtype, int threads);

typedef struct {
    const void *qkv, *attention_out, *up, *down;
    const float *qkv_bias, *attention_out_bias, *up_bias, *down_bias;
    const float *attention_norm, *attention_norm_bias, *output_norm, *output_norm_bias;
} Layer;

typedef struct {
    const float *word, *position; /* (vocab, D), (max positions, D); the token type's row is in every position */
    const float *norm, *norm_bias;
    const Layer *layers;
    int64_t n_layers, D, F, H;
    float eps;
} Encoder;

/* ---- norm and gate ------------------------------------------------------------------------------------------------- */

/* x (T, D) becomes layer_norm(x + delta) · weight + bias. D a multiple of 16. */
EXPORT void ll_add_layer_norm(float *x, const float *delta, const float *weight, const float *bias, int64_t T, int64_t D, float eps) {
    for (int64_t t = 0; t < T; t++, x += D, delta += delta ? D : 0) {
        vf added = {0}, squares = {0};
        for (int64_t i = 0; i < D; i += V) {
            vf v = load(x, i, 0);
            if (delta) v += load(delta, i, 0);
            added += v;
            store(x, i, v, 0);
        }
        float mean = sum(added) / D;
        for (int64_t i = 0; i < D; i += V) {
            vf v = load(x, i, 0) - mean;
            squares += v * v;
        }
        float scale = 1.f / sqrtf(sum(squares) / D + eps);
        for (int64_t i = 0; i < D; i += V)
            store(x, i, (load(x, i, 0) - mean) * scale * load(weight, i, 0) + load(bias, i, 0), 0);
    }
}

/* x · Φ(x), with Abramowitz and Stegun's 7.1.26 for erf (|error| < 1.5e-7). */
INLINE vf geluv(vf x) {
    vf z = (vf)((vi)x & 0x7FFFFFFF) * 0.70710678118654752f;
    vf t = 1.f / (1.f + 0.3275911f * z);
    vf p = splat(1.061405429f);
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    vf tail = 0.5f * p * t * expv(-z * z); /* Φ(-|x|) */
    return x * choose(less(x, splat(0)), tail, 1.f - tail);
}

/* n a multiple of 16. */
EXPORT void ll_gelu(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += V) store(x, i, geluv(load(x, i, 0)), 0);
}

/* ---- attention ----------------------------------------------------------------------------------------------------- */

/* Both products are of bf16 pairs along the inner dimension where the processor multiplies those, and else of fp32. */
#if defined(__AVX512BF16__)
enum { PER = 2 }; /* values in an element */
typedef uint32_t element __attribute__((may_alias));
INLINE vf multiply_add(vf acc, element a, const element *b) {
    return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)_mm512_loadu_si512(b));
}

/* n values side by side. n a multiple of 16. */
INLINE void to_elements(const float *x, element *to, int64_t n) {
    for (int64_t i = 0; i < n; i += V) _mm256_storeu_si256((__m256i *)(to + i / 2), (__m256i)_mm512_cvtneps_pbh((__m512)load(x, i, 0)));
}

/* Two rows of n values, so that an element has one of each. */
INLINE void pair_rows(const float *even, const float *odd, element *to, int64_t n) {
    for (int64_t i = 0; i < n; i += V) {
        __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)load(even, i, 0)));
        __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(odd ? (__m512)load(odd, i, 0) : _mm512_setzero_ps()));
        _mm512_storeu_si512(to + i, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
}
#else
enum { PER = 1 };
typedef float element;
INLINE vf multiply_add(vf acc, element a, const element *b) { return acc + a * load(b, 0, 0); }
INLINE void to_elements(const float *x, element *to, int64_t n) { memcpy(to, x, (size_t)n * sizeof(float)); }
INLINE void pair_rows(const float *even, const float *odd, element *to, int64_t n) {
    (void)odd;
    to_elements(even, to, n);
}
#endif

/* Scores of `rows` queries (rows, inner) with a panel of 64 keys (inner, 64). */
INLINE void score(const element *q, const element *keys, float *scores, int64_t width, int64_t inner, const int rows) {
    vf acc[ROWS][4] = {0};
    for (int64_t k = 0; k < inner; k++)
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < 4; j++) acc[r][j] = multiply_add(acc[r][j], q[r * inner + k], keys + k * PANEL + j * V);
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) store(scores, r * width + j * V, acc[r][j], 0);
}

/* y (rows, 16 · vectors) = weights (rows, inner) · values (inner, hd), each row times its factor. */
INLINE void mix(const element *weights, int64_t width, const element *values, int64_t hd, int64_t inner, const float *factor, float *y,
                int64_t y_stride, const int rows, const int vectors) {
    vf acc[ROWS][2] = {0};
    for (int64_t j = 0; j < inner; j++)
        for (int r = 0; r < rows; r++)
            for (int i = 0; i < vectors; i++) acc[r][i] = multiply_add(acc[r][i], weights[r * width + j], values + j * hd + i * V);
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < vectors; i++) store(y, r * y_stride + i * V, acc[r][i] * factor[r], 0);
}

/* Scores become weights; returns one over their sum. Scores from L up to the width are not looked at. */
INLINE float soften(float *s, int64_t L, float scale) {
    int64_t whole = (L + V - 1) / V * V;
    for (int64_t j = L; j < whole; j++) s[j] = -INFINITY;
    vf high = splat(-INFINITY), added = {0};
    for (int64_t j = 0; j < whole; j += V) {
        vf v = load(s, j, 0);
        high = choose(less(high, v), v, high);
    }
    float most = largest(high) * scale;
    for (int64_t j = 0; j < whole; j += V) {
        vf w = exp2v(load(s, j, 0) * scale - most);
        added += w;
        store(s, j, w, 0);
    }
    return 1.f / sum(added);
}

typedef struct {
    int64_t L, width, hd; /* width: L up to whole panels */
    element *q;           /* (ROWS, hd / PER) */
    element *keys;        /* panels (hd / PER, 64): lanes are keys */
    element *values;      /* (width / PER, hd) */
    element *weights;     /* (ROWS, width / PER) */
    float *scores;        /* (ROWS, width) */
} Head;

/* Floats that a text of L tokens needs. */
static int64_t attention_scratch(int64_t L, int64_t hd) {
    int64_t width = (L + PANEL - 1) / PANEL * PANEL;
    return 2 * width * hd + ROWS * (2 * width + hd);
}

static Head head_in(float *scratch, int64_t L, int64_t hd) {
    Head h = {.L = L, .width = (L + PANEL - 1) / PANEL * PANEL, .hd = hd, .scores = scratch};
    h.q = (element *)(scratch + ROWS * h.width);
    h.keys = h.q + ROWS * hd;
    h.values = h.keys + h.width * hd;
    h.weights = h.values + h.width * hd;
    return h;
}

/* Rows of q, k and v lie `stride` apart. */
static void take_keys_and_values(const Head *h, const float *k, const float *v, int64_t stride) {
    int64_t inner = h->hd / PER;
    memset(h->keys, 0, (size_t)(h->width * inner) * sizeof(element));
    for (int64_t j = 0; j < h->L; j++) {
        element *to = h->keys + j / PANEL * PANEL * inner + j % PANEL;
        to_elements(k + j * stride, h->q, h->hd);
        for (int64_t i = 0; i < inner; i++) to[i * PANEL] = h->q[i];
    }
    for (int64_t j = 0; j < h->L; j += PER)
        pair_rows(v + j * stride, j + 1 < h->L ? v + (j + 1) * stride : 0, h->values + j / PER * h->hd, h->hd);
}

INLINE void attend_rows(const Head *h, const float *q, int64_t stride, float *y, int64_t y_stride, const int rows) {
    float factor[ROWS], scale = LOG2E / sqrtf((float)h->hd); /* exponents in base 2 */
    int64_t inner = h->hd / PER, width = h->width / PER, keys = (h->L + PER - 1) / PER, i = 0;
    for (int r = 0; r < rows; r++) to_elements(q + r * stride, h->q + r * inner, h->hd);
    for (int64_t p = 0; p < h->width; p += PANEL) score(h->q, h->keys + p * inner, h->scores + p, h->width, inner, rows);
    for (int r = 0; r < rows; r++) {
        factor[r] = soften(h->scores + r * h->width, h->L, scale);
        to_elements(h->scores + r * h->width, h->weights + r * width, (h->L + V - 1) / V * V);
    }
    for (; i + 2 * V <= h->hd; i += 2 * V) mix(h->weights, width, h->values + i, h->hd, keys, factor, y + i, y_stride, rows, 2);
    if (i < h->hd) mix(h->weights, width, h->values + i, h->hd, keys, factor, y + i, y_stride, rows, 1);
}

/* Every token of one text sees every other: qkv (L, 3, H, hd) -> y (L, H, hd). hd a multiple of 16. */
static void attend_text(const float *qkv, float *y, int64_t L, int64_t H, int64_t hd, float *scratch) {
    int64_t D = H * hd, stride = 3 * D;
    Head h = head_in(scratch, L, hd);
    for (int64_t head = 0; head < H; head++) {
        const float *q = qkv + head * hd;
        int64_t t = 0;
        take_keys_and_values(&h, q + D, q + 2 * D, stride);
        for (; t + ROWS <= L; t += ROWS) attend_rows(&h, q + t * stride, stride, y + t * D + head * hd, D, ROWS);
        if (t < L && L > ROWS) { /* some rows a second time: cheaper than a few one by one */
            t = L - ROWS;
            attend_rows(&h, q + t * stride, stride, y + t * D + head * hd, D, ROWS);
        } else
            for (; t < L; t++) attend_rows(&h, q + t * stride, stride, y + t * D + head * hd, D, 1);
    }
}

/* Attention alone, for one text; returns 1 where memory is out. */
EXPORT int ll_attend_text(const float *qkv, float *y, int64_t L, int64_t H, int64_t hd) {
    float *scratch = malloc((size_t)attention_scratch(L, hd) * sizeof(float));
    if (!scratch) return 1;
    attend_text(qkv, y, L, H, hd, scratch);
    free(scratch);
    return 0;
}

/* ---- the encoder --------------------------------------------------------------------------------------------------- */

/* Some texts through all layers. vectors (n_texts, D): the mean over each text's tokens, of length 1. */
static int encode_texts(const Encoder *e, const int32_t *ids, const int64_t *starts, int64_t n_texts, float *vectors) {
    int64_t D = e->D, first = starts[0], T = starts[n_texts] - first, longest = 0, failed = 0;
    for (int64_t n = 0; n < n_texts; n++)
        if (starts[n + 1] - starts[n] > longest) longest = starts[n + 1] - starts[n];
    int64_t wide = T * 3 * D, fed = FEED_TOKENS * e->F;
    if (fed > wide) wide = fed;
    float *x = malloc((size_t)(2 * T * D + wide + attention_scratch(longest, D / e->H)) * sizeof(float));
    if (!x) return 1;
    float *y = x + T * D, *h = y + T * D, *scratch = h + wide;
    for (int64_t n = 0; n < n_texts; n++)
        for (int64_t t = starts[n]; t < starts[n + 1]; t++)
            for (int64_t i = 0; i < D; i += V)
                store(x, (t - first) * D + i, load(e->word, ids[t] * D + i, 0) + load(e->position, (t - starts[n]) * D + i, 0), 0);
    ll_add_layer_norm(x, 0, e->norm, e->norm_bias, T, D, e->eps);
    for (const Layer *l = e->layers; l < e->layers + e->n_layers; l++) {
        failed |= ll_packed_linear(x, D, l->qkv, l->qkv_bias, h, 3 * D, T, 0, 1);
        for (int64_t n = 0; n < n_texts; n++) {
            int64_t at = starts[n] - first;
            attend_text(h + at * 3 * D, y + at * D, starts[n + 1] - starts[n], e->H, D / e->H, scratch);
        }
        failed |= ll_packed_linear(y, D, l->attention_out, l->attention_out_bias, h, D, T, 0, 1);
        ll_add_layer_norm(x, h, l->attention_norm, l->attention_norm_bias, T, D, e->eps);
        for (int64_t t = 0; t < T; t += FEED_TOKENS) {
            int64_t n = T - t < FEED_TOKENS ? T - t : FEED_TOKENS;
            failed |= ll_packed_linear(x + t * D, D, l->up, l->up_bias, h, e->F, n, 0, 1);
            ll_gelu(h, n * e->F);
            failed |= ll_packed_linear(h, e->F, l->down, l->down_bias, y + t * D, D, n, 0, 1);
        }
        ll_add_layer_norm(x, y, l->output_norm, l->output_norm_bias, T, D, e->eps);
    }
    for (int64_t n = 0; n < n_texts; n++) {
        float *mean = vectors + n * D;
        vf squares = {0};
        for (int64_t i = 0; i < D; i += V) {
            vf added = {0};
            for (int64_t t = starts[n] - first; t < starts[n + 1] - first; t++) added += load(x, t * D + i, 0);
            store(mean, i, added, 0);
            squares += added * added;
        }
        float scale = 1.f / sqrtf(sum(squares));
        for (int64_t i = 0; i < D; i += V) store(mean, i, load(mean, i, 0) * scale, 0);
    }
    free(x);
    return (int)failed;
}

/* Texts to vectors (n_texts, D). Text n has the tokens ids[starts[n]] up to ids[starts[n + 1]], at least one; part i has
 * the texts parts[i] up to parts[i + 1] and is one thread's work. Returns 1 where memory is out. */
EXPORT int ll_bert_encode(const Encoder *e, const int32_t *ids, const int64_t *starts, const int64_t *parts, int64_t n_parts,
                          float *vectors, int threads) {
    int failed = 0;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) reduction(| : failed)
    for (int64_t i = 0; i < n_parts; i++)
        failed |= encode_texts(e, ids, starts + parts[i], parts[i + 1] - parts[i], vectors + parts[i] * e->D);
    return failed;
}
