/* Products over few tokens: bound by reading the weights. Letters: T tokens. */
#include "vectors.h"

enum { MAX_TOKENS = 8, AHEAD_BYTES = 2048 };

INLINE vf dot_step(vf acc, const uint16_t *w, const uint16_t *x) { /* 32 bf16 values */
#if defined(__AVX512BF16__)
    return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_loadu_si512(w), (__m512bh)_mm512_loadu_si512(x));
#else
    acc += load(w, 0, 1) * load(x, 0, 1);
    return acc + load(w, V, 1) * load(x, V, 1);
#endif
}

/* One row at a time, so that the weights are one stream, fetched ahead; four sums hide the latency of one. */
INLINE void row_bf16(const uint16_t *w, const uint16_t *x, float *y, int T, int64_t n_in) {
    vf acc[MAX_TOKENS][4] = {0};
    int64_t k = 0;
    for (; k + 128 <= n_in; k += 128) {
        __builtin_prefetch((const char *)(w + k) + AHEAD_BYTES);
        __builtin_prefetch((const char *)(w + k) + AHEAD_BYTES + 64);
        __builtin_prefetch((const char *)(w + k) + AHEAD_BYTES + 128);
        __builtin_prefetch((const char *)(w + k) + AHEAD_BYTES + 192);
        for (int t = 0; t < T; t++)
            for (int i = 0; i < 4; i++) acc[t][i] = dot_step(acc[t][i], w + k + 32 * i, x + t * n_in + k + 32 * i);
    }
    for (; k + 32 <= n_in; k += 32)
        for (int t = 0; t < T; t++) acc[t][0] = dot_step(acc[t][0], w + k, x + t * n_in + k);
    for (int t = 0; t < T; t++) {
        y[t] = sum((acc[t][0] + acc[t][1]) + (acc[t][2] + acc[t][3]));
        for (int64_t i = k; i < n_in; i++) y[t] += widen(w[i]) * widen(x[t * n_in + i]);
    }
}

/* y (T, n_out) = x (T, n_in) · weight (n_out, n_in)ᵀ + bias, all bf16; T <= 8. */
EXPORT void ll_gemv_bf16(const uint16_t *x, const uint16_t *weight, const void *bias, uint16_t *y, int64_t T, int64_t n_in,
                         int64_t n_out, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t o = 0; o < n_out; o++) {
        float sums[MAX_TOKENS];
        if (T == 1) row_bf16(weight + o * n_in, x, sums, 1, n_in);
        else row_bf16(weight + o * n_in, x, sums, (int)T, n_in);
        for (int t = 0; t < T; t++) y[t * n_out + o] = narrow(sums[t] + (bias ? get(bias, o, 1) : 0));
    }
}

INLINE void row_int8(const int8_t *w, const float *x, float *y, int T, int64_t n_in) {
    vf acc[MAX_TOKENS][4] = {0};
    int64_t k = 0;
    for (; k + 64 <= n_in; k += 64) {
        __builtin_prefetch((const char *)(w + k) + AHEAD_BYTES);
        for (int i = 0; i < 4; i++) {
            vf wide = __builtin_convertvector(widen8(w + k + V * i), vf);
            for (int t = 0; t < T; t++) acc[t][i] += wide * load(x, t * n_in + k + V * i, 0);
        }
    }
    for (int t = 0; t < T; t++) {
        y[t] = sum((acc[t][0] + acc[t][1]) + (acc[t][2] + acc[t][3]));
        for (int64_t i = k; i < n_in; i++) y[t] += w[i] * x[t * n_in + i];
    }
}

/* y (T, n_out) = x (T, n_in) · (weight (n_out, n_in) · scale (n_out))ᵀ + bias; x, y and bias of dtype; T <= 8. */
EXPORT int ll_gemv_int8(const void *x, const int8_t *weight, const float *scale, const void *bias, void *y, int64_t T,
                        int64_t n_in, int64_t n_out, int dtype, int threads) {
    float *wide = malloc((size_t)T * n_in * sizeof(float));
    if (!wide) return 1;
    for (int64_t i = 0; i < T * n_in; i++) wide[i] = get(x, i, dtype);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t o = 0; o < n_out; o++) {
        float sums[MAX_TOKENS];
        if (T == 1) row_int8(weight + o * n_in, wide, sums, 1, n_in);
        else row_int8(weight + o * n_in, wide, sums, (int)T, n_in);
        for (int t = 0; t < T; t++) put(y, t * n_out + o, sums[t] * scale[o] + (bias ? get(bias, o, dtype) : 0), dtype);
    }
    free(wide);
    return 0;
}
