/* Products over few tokens: bound by reading the weights. Letters: T tokens. */
#include "vectors.h"

enum { GEMV_ROWS = 4, GEMV_TOKENS = 8 };

INLINE vf dot_step(vf acc, const uint16_t *w, const uint16_t *x) { /* 32 bf16 values */
#if defined(__AVX512BF16__)
    return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_loadu_si512(w), (__m512bh)_mm512_loadu_si512(x));
#else
    acc += load(w, 0, 1) * load(x, 0, 1);
    return acc + load(w, V, 1) * load(x, V, 1);
#endif
}

INLINE void gemv_bf16_rows(const uint16_t *weight, const uint16_t *x, const void *bias, uint16_t *y, int64_t o, int rows, int T,
                           int64_t n_in, int64_t n_out) {
    vf acc[GEMV_ROWS][GEMV_TOKENS] = {0};
    int64_t k = 0;
    for (; k + 32 <= n_in; k += 32)
        for (int r = 0; r < rows; r++)
            for (int t = 0; t < T; t++) acc[r][t] = dot_step(acc[r][t], weight + (o + r) * n_in + k, x + t * n_in + k);
    for (int r = 0; r < rows; r++)
        for (int t = 0; t < T; t++) {
            float s = sum(acc[r][t]);
            for (int64_t i = k; i < n_in; i++) s += widen(weight[(o + r) * n_in + i]) * widen(x[t * n_in + i]);
            y[t * n_out + o + r] = narrow(s + (bias ? get(bias, o + r, 1) : 0));
        }
}

/* y (T, n_out) = x (T, n_in) · weight (n_out, n_in)ᵀ + bias, all bf16; T <= 8. */
EXPORT void ll_gemv_bf16(const uint16_t *x, const uint16_t *weight, const void *bias, uint16_t *y, int64_t T, int64_t n_in,
                         int64_t n_out, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t o = 0; o < n_out; o += GEMV_ROWS) {
        int rows = n_out - o < GEMV_ROWS ? (int)(n_out - o) : GEMV_ROWS;
        if (rows == GEMV_ROWS && T == 1) gemv_bf16_rows(weight, x, bias, y, o, GEMV_ROWS, 1, n_in, n_out);
        else if (rows == GEMV_ROWS && T == 4) gemv_bf16_rows(weight, x, bias, y, o, GEMV_ROWS, 4, n_in, n_out);
        else gemv_bf16_rows(weight, x, bias, y, o, rows, (int)T, n_in, n_out);
    }
}

INLINE void gemv_int8_rows(const int8_t *weight, const float *scale, const float *x, const void *bias, void *y, int64_t o, int rows,
                           int T, int64_t n_in, int64_t n_out, int dtype) {
    vf acc[GEMV_ROWS][GEMV_TOKENS] = {0};
    int64_t k = 0;
    for (; k + V <= n_in; k += V)
        for (int r = 0; r < rows; r++) {
            vf w = __builtin_convertvector(__builtin_convertvector(*(const vb *)(weight + (o + r) * n_in + k), vi), vf);
            for (int t = 0; t < T; t++) acc[r][t] += w * load(x, t * n_in + k, 0);
        }
    for (int r = 0; r < rows; r++)
        for (int t = 0; t < T; t++) {
            float s = sum(acc[r][t]);
            for (int64_t i = k; i < n_in; i++) s += weight[(o + r) * n_in + i] * x[t * n_in + i];
            put(y, t * n_out + o + r, s * scale[o + r] + (bias ? get(bias, o + r, dtype) : 0), dtype);
        }
}

/* y (T, n_out) = x (T, n_in) · (weight (n_out, n_in) · scale (n_out))ᵀ + bias; x, y and bias of dtype; T <= 8. */
EXPORT int ll_gemv_int8(const void *x, const int8_t *weight, const float *scale, const void *bias, void *y, int64_t T,
                        int64_t n_in, int64_t n_out, int dtype, int threads) {
    float *wide = malloc((size_t)T * n_in * sizeof(float));
    if (!wide) return 1;
    for (int64_t i = 0; i < T * n_in; i++) wide[i] = get(x, i, dtype);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t o = 0; o < n_out; o += GEMV_ROWS) {
        int rows = n_out - o < GEMV_ROWS ? (int)(n_out - o) : GEMV_ROWS;
        if (rows == GEMV_ROWS && T == 1) gemv_int8_rows(weight, scale, wide, bias, y, o, GEMV_ROWS, 1, n_in, n_out, dtype);
        else gemv_int8_rows(weight, scale, wide, bias, y, o, rows, (int)T, n_in, n_out, dtype);
    }
    free(wide);
    return 0;
}
