/* What Longleaf's CPU kernels share: vectors of 16 floats, bf16, exponentials.
 *
 * Each kernel has a plain PyTorch version of the same meaning (kernels.py, selective_scan.py, linear.py), which tests
 * hold it to. Written with the vector extensions of GCC and Clang, so that one text serves every instruction set:
 * setup.py compiles it once per set and native.py loads the one that the processor runs. Only dot products of bf16 and
 * int8 use instructions by name, where there are any. Plain C interface, no Python, no libraries but the OpenMP runtime
 * that PyTorch brings.
 *
 * dtype: 0 is fp32, 1 is bf16. Strides are in elements.
 */
#ifndef LONGLEAF_VECTORS_H
#define LONGLEAF_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define V 16 /* lanes: one AVX-512 register, two of AVX2, four of NEON */

typedef float vf __attribute__((vector_size(64), aligned(4)));
typedef int32_t vi __attribute__((vector_size(64), aligned(4)));
typedef uint32_t vu __attribute__((vector_size(64), aligned(4)));
typedef uint16_t vh __attribute__((vector_size(32), aligned(2)));
typedef int16_t vs __attribute__((vector_size(32), aligned(2)));
typedef int8_t vb __attribute__((vector_size(16), aligned(1)));

INLINE float widen(uint16_t h) {
    union { uint32_t u; float f; } c = {(uint32_t)h << 16};
    return c.f;
}

INLINE uint16_t narrow(float f) { /* round to nearest even */
    union { float f; uint32_t u; } c = {f};
    return f != f ? 0x7FC0 : (uint16_t)((c.u + 0x7FFF + ((c.u >> 16) & 1)) >> 16);
}

INLINE float get(const void *p, size_t i, int dtype) {
    return dtype ? widen(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

INLINE void put(void *p, size_t i, float value, int dtype) {
    if (dtype) ((uint16_t *)p)[i] = narrow(value);
    else ((float *)p)[i] = value;
}

INLINE vf splat(float x) { return x - (vf){0}; }

/* All bits of a lane set where it is so; by name, for GCC 12 compares lane by lane what is wider than a register. */
#if defined(__AVX2__) && !defined(__AVX512F__)
#define COMPARE(name, how)                                                                              \
    INLINE vi name(vf a, vf b) {                                                                        \
        union { vf all; __m256 half[2]; } x = {a}, y = {b};                                             \
        union { __m256 half[2]; vi all; } r;                                                            \
        for (int i = 0; i < 2; i++) r.half[i] = _mm256_cmp_ps(x.half[i], y.half[i], how);               \
        return r.all;                                                                                   \
    }
COMPARE(less, _CMP_LT_OQ)
COMPARE(same, _CMP_EQ_OQ)
#undef COMPARE
#else
INLINE vi less(vf a, vf b) { return a < b; }
INLINE vi same(vf a, vf b) { return a == b; }
#endif

INLINE vf choose(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

INLINE vf load(const void *p, size_t i, int dtype) {
    if (!dtype) return *(const vf *)((const float *)p + i);
    return (vf)(__builtin_convertvector(*(const vh *)((const uint16_t *)p + i), vu) << 16);
}

INLINE void store(void *p, size_t i, vf value, int dtype) {
    if (!dtype) {
        *(vf *)((float *)p + i) = value;
        return;
    }
    vu bits = (vu)value;
    vu rounded = (vu)choose(same(value, value), (vf)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16), (vf)((vu){0} + 0x7FC0));
    *(vh *)((uint16_t *)p + i) = __builtin_convertvector(rounded, vh);
}

/* Over all lanes. */
#if defined(__AVX512F__)
INLINE float sum(vf x) { return _mm512_reduce_add_ps((__m512)x); }
INLINE float largest(vf x) { return _mm512_reduce_max_ps((__m512)x); }
INLINE int32_t total(vi x) { return _mm512_reduce_add_epi32((__m512i)x); }
#else
INLINE float sum(vf x) {
    for (int half = V / 2; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}

INLINE float largest(vf x) {
    for (int half = V / 2; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] = x[i + half] > x[i] ? x[i + half] : x[i];
    return x[0];
}

INLINE int32_t total(vi x) {
    for (int half = V / 2; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}
#endif

/* Between 8 and 32 bits; by name or in two steps, for GCC 12 goes lane by lane in one. */
#if defined(__AVX512F__)
INLINE vi widen8(const int8_t *p) { return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)); }
INLINE vb narrow8(vi x) { return (vb)_mm512_cvtepi32_epi8((__m512i)x); }
#else
INLINE vi widen8(const int8_t *p) { return __builtin_convertvector(__builtin_convertvector(*(const vb *)p, vs), vi); }
INLINE vb narrow8(vi x) { return __builtin_convertvector(__builtin_convertvector(x, vs), vb); }
#endif

/* 2^x. Reduction to [-1/2, 1/2] and the polynomial of Cephes' exp2f; below -126 the result is 2^-126, not 0. */
INLINE vf exp2v(vf x) {
    x = choose(less(x, splat(-126.f)), splat(-126.f), x);
    x = choose(less(splat(127.f), x), splat(127.f), x);
    vf shifted = x + 12582912.f; /* 1.5 * 2^23: the integer part lands in the low bits */
    vf r = x - (shifted - 12582912.f);
    vf p = splat(1.535336188319500e-4f);
    p = p * r + 1.339887440266574e-3f;
    p = p * r + 9.618437357674640e-3f;
    p = p * r + 5.550332471162809e-2f;
    p = p * r + 2.402264791363012e-1f;
    p = p * r + 6.931472028550421e-1f;
    p = p * r + 1.f;
    return p * (vf)(((vi)shifted << 23) + 0x3F800000); /* a product, so that NaN stays NaN */
}

#define LOG2E 1.44269504088896341f

INLINE vf expv(vf x) { return exp2v(x * LOG2E); }

INLINE vf siluv(vf x) { return x / (1.f + expv(-x)); }

/* ln(x) for normal x > 0: mantissa in [sqrt(1/2), sqrt(2)), polynomial of Cephes' logf. */
INLINE vf logv(vf x) {
    vi bits = (vi)x;
    vi e = ((bits >> 23) & 255) - 126;
    vf m = (vf)((bits & 0x007FFFFF) | 0x3F000000); /* [1/2, 1) */
    vi small = less(m, splat(0.707106781186547524f));
    m = choose(small, m + m, m) - 1.f;
    vf ef = __builtin_convertvector(e + small, vf); /* small is -1 where true */
    vf z = m * m;
    vf p = splat(7.0376836292e-2f);
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    vf y = m * z * p + ef * -2.12194440e-4f - 0.5f * z;
    return m + y + ef * 0.693359375f;
}

/* ln(1 + e^x), and x itself above 20 as PyTorch and mamba-ssm have it. */
INLINE vf softplusv(vf x) {
    vf u = expv(choose(less(splat(20.f), x), splat(20.f), x));
    vf w = 1.f + u;
    vi tiny = same(w, splat(1.f));
    /* ln(w)·u/(w-1) makes up for what 1+u lost of u */
    vf l = choose(tiny, u, logv(w) * (u / choose(tiny, splat(1.f), w - 1.f)));
    return choose(less(splat(20.f), x), x, l);
}

#endif
