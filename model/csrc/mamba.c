/* The causal convolution and the selective scan. Letters: L chunk length, E d_inner, N d_state, W d_conv. */
#include "vectors.h"

/* Depthwise causal convolution and silu; x (L, E) rows x_stride apart, weight (W, E) fp32, state (W-1, E) moves on. */
EXPORT void ll_causal_conv(const void *x, int64_t x_stride, const float *weight, const float *bias, void *state, void *out,
                           int64_t L, int64_t E, int64_t W, int dtype, int threads) {
    enum { MAX_W = 8 };
#pragma omp parallel for num_threads(threads) if (L * E > 16384)
    for (int64_t e = 0; e < E; e += V) {
        vf window[MAX_W], taps[MAX_W];
        for (int64_t w = 0; w < W; w++) taps[w] = load(weight, (size_t)w * E + e, 0);
        for (int64_t w = 0; w < W - 1; w++) window[w] = load(state, (size_t)w * E + e, dtype);
        vf offset = bias ? load(bias, e, 0) : splat(0);
        for (int64_t t = 0; t < L; t++) {
            window[W - 1] = load(x, (size_t)t * x_stride + e, dtype);
            vf y = offset;
            for (int64_t w = 0; w < W; w++) y += window[w] * taps[w];
            store(out, (size_t)t * E + e, siluv(y), dtype);
            for (int64_t w = 0; w < W - 1; w++) window[w] = window[w + 1];
        }
        for (int64_t w = 0; w < W - 1; w++) store(state, (size_t)w * E + e, window[w], dtype);
    }
}

enum { SCAN_TOKENS = 32, MAX_N = 64 };

/* One vector of channels over a few tokens, state in registers: s = 2^(dt·A)·s + dtx·B, y += Σ C·s. */
INLINE void scan_tokens(vf *s, const vf *A, const vf *dt, const vf *dtx, const float *B, const float *C, vf *y, int tokens,
                        int N) {
    for (int t = 0; t < tokens; t++) {
        vf d = dt[t], dx = dtx[t], even = y[t], odd = {0};
        for (int n = 0; n < N; n++) {
            s[n] = exp2v(d * A[n]) * s[n] + dx * B[(size_t)t * N + n];
            if (n & 1) odd += s[n] * C[(size_t)t * N + n];
            else even += s[n] * C[(size_t)t * N + n];
        }
        y[t] = even + odd;
    }
}

/* The selective scan of selective_scan.py; x and z (L, E) by rows, dt (L, E), B and C (L, N) fp32, A (N, E), state (N, E). */
EXPORT void ll_selective_scan(const void *x, int64_t x_stride, const void *dt, const float *A, const float *B, const float *C,
                              const float *D, const void *z, int64_t z_stride, const float *dt_bias, float *state, void *out,
                              int64_t L, int64_t E, int64_t N, int dtype, int threads) {
#pragma omp parallel for num_threads(threads) if (L * E > 4096)
    for (int64_t e = 0; e < E; e += V) {
        vf s[MAX_N], a[MAX_N], step[SCAN_TOKENS], input[SCAN_TOKENS], y[SCAN_TOKENS];
        for (int64_t n = 0; n < N; n++) {
            s[n] = load(state, (size_t)n * E + e, 0);
            a[n] = load(A, (size_t)n * E + e, 0) * LOG2E;
        }
        vf bias = load(dt_bias, e, 0), skip = load(D, e, 0);
        for (int64_t t0 = 0; t0 < L; t0 += SCAN_TOKENS) {
            int tokens = L - t0 < SCAN_TOKENS ? (int)(L - t0) : SCAN_TOKENS;
            for (int t = 0; t < tokens; t++) {
                vf xv = load(x, (size_t)(t0 + t) * x_stride + e, dtype);
                step[t] = softplusv(load(dt, (size_t)(t0 + t) * E + e, dtype) + bias);
                input[t] = step[t] * xv;
                y[t] = skip * xv;
            }
            if (N == 16) scan_tokens(s, a, step, input, B + t0 * N, C + t0 * N, y, tokens, 16);
            else scan_tokens(s, a, step, input, B + t0 * N, C + t0 * N, y, tokens, (int)N);
            for (int t = 0; t < tokens; t++)
                store(out, (size_t)(t0 + t) * E + e, y[t] * siluv(load(z, (size_t)(t0 + t) * z_stride + e, dtype)), dtype);
        }
        for (int64_t n = 0; n < N; n++) store(state, (size_t)n * E + e, s[n], 0);
    }
}
