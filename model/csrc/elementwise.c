/* Norms, gates and rotary embedding. Letters: T tokens, D width, I d_ff, R dt_rank, N d_state, hd head_dim. */
#include "vectors.h"

/* x (T, D) += delta, where there is one; out = x / rms(x) * weight. */
EXPORT void ll_rms_norm(void *x, const void *delta, const void *weight, void *out, int64_t T, int64_t D, float eps,
                        int dtype, int threads) {
#pragma omp parallel for num_threads(threads) if (T * D > 16384)
    for (int64_t t = 0; t < T; t++) {
        size_t row = (size_t)t * D;
        vf squares = {0};
        float rest = 0;
        int64_t i = 0;
        for (; i + V <= D; i += V) {
            vf v = load(x, row + i, dtype);
            if (delta) {
                v += load(delta, row + i, dtype);
                store(x, row + i, v, dtype);
                v = load(x, row + i, dtype); /* as it was rounded */
            }
            squares += v * v;
        }
        for (; i < D; i++) {
            float v = get(x, row + i, dtype);
            if (delta) {
                put(x, row + i, v + get(delta, row + i, dtype), dtype);
                v = get(x, row + i, dtype);
            }
            rest += v * v;
        }
        float scale = 1.f / sqrtf((sum(squares) + rest) / D + eps);
        for (i = 0; i + V <= D; i += V) store(out, row + i, load(x, row + i, dtype) * scale * load(weight, i, dtype), dtype);
        for (; i < D; i++) put(out, row + i, get(x, row + i, dtype) * scale * get(weight, i, dtype), dtype);
    }
}

/* silu(gate) * up, (T, I) each with rows `stride` apart -> (T, I) */
EXPORT void ll_silu_mul(const void *gate, const void *up, int64_t stride, void *out, int64_t T, int64_t I, int dtype, int threads) {
#pragma omp parallel for num_threads(threads) if (T * I > 16384)
    for (int64_t t = 0; t < T; t++) {
        size_t from = (size_t)t * stride, to = (size_t)t * I;
        int64_t i = 0;
        for (; i + V <= I; i += V) store(out, to + i, siluv(load(gate, from + i, dtype)) * load(up, from + i, dtype), dtype);
        for (; i < I; i++) {
            float g = get(gate, from + i, dtype);
            put(out, to + i, g / (1.f + expf(-g)) * get(up, from + i, dtype), dtype);
        }
    }
}

INLINE void norm_part(const void *in, size_t at, const void *weight, void *out, size_t to, int64_t n, float eps, int dtype,
                      int out_dtype) {
    float squares = 0, scale = 1;
    if (weight) {
        for (int64_t i = 0; i < n; i++) {
            float v = get(in, at + i, dtype);
            squares += v * v;
        }
        scale = 1.f / sqrtf(squares / n + eps);
    }
    for (int64_t i = 0; i < n; i++)
        put(out, to + i, get(in, at + i, dtype) * scale * (weight ? get(weight, i, dtype) : 1.f), out_dtype);
}

/* in (T, R + 2N) -> dt (T, R), and B, C (T, N) in fp32; normalised where the weights are not NULL. */
EXPORT void ll_dt_b_c(const void *in, const void *dt_weight, const void *b_weight, const void *c_weight, void *dt, float *B,
                      float *C, int64_t T, int64_t R, int64_t N, float eps, int dtype, int threads) {
#pragma omp parallel for num_threads(threads) if (T > 32)
    for (int64_t t = 0; t < T; t++) {
        size_t row = (size_t)t * (R + 2 * N);
        norm_part(in, row, dt_weight, dt, (size_t)t * R, R, eps, dtype, dtype);
        norm_part(in, row + R, b_weight, B, (size_t)t * N, N, eps, dtype, 0);
        norm_part(in, row + R + N, c_weight, C, (size_t)t * N, N, eps, dtype, 0);
    }
}

/* x (T, heads, hd), tokens `stride` apart, in place; cos and sin (T, hd / 2). */
EXPORT void ll_rope(void *x, const float *cosines, const float *sines, int64_t T, int64_t heads, int64_t hd, int64_t stride,
                    int dtype, int threads) {
    int64_t half = hd / 2;
#pragma omp parallel for num_threads(threads) if (T > 8)
    for (int64_t t = 0; t < T; t++)
        for (int64_t h = 0; h < heads; h++) {
            size_t a = (size_t)t * stride + h * hd, b = a + half;
            for (int64_t i = 0; i < half; i++) {
                float c = cosines[t * half + i], s = sines[t * half + i];
                float first = get(x, a + i, dtype), second = get(x, b + i, dtype);
                put(x, a + i, first * c - second * s, dtype);
                put(x, b + i, second * c + first * s, dtype);
            }
        }
}
