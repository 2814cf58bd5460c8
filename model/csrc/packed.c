/* Products with weights of 4, 6 or 8 bits that stay packed, and the way there from GGUF's blocks.
 *
 * A weight is d·q - m with q unsigned and d, m per group of 16 or 32 along the inner dimension. Where m is the same
 * multiple of d everywhere (Q6_K: 32, Q8_0: 128), only d is kept. Activations are rounded to int8 with a scale per 256
 * values (as ggml has them for its K-quants) or per 32, so that all multiplying is u8 × s8 -> s32:
 *
 *     y = Σ_blocks a·Σ_groups (d·Σ q·x - m·Σ x)
 *
 * Layout: 16 output rows side by side; for each group and each step of 4 inner values, 16 × 4 bytes. 4 bits: a byte
 * holds a value of the first half of the group's steps low and one of the second half high. 6 bits: low halves so, and
 * behind them for the four steps together a byte with their high two bits. The block formats are those of
 * ggml (ggml-common.h, ggml-quants.c; MIT licence), read from their description, not copied. Letters: T tokens.
 */
#include "vectors.h"

typedef uint8_t vq __attribute__((vector_size(64), aligned(1)));

enum { ROWS = 16, FEW = 2, AHEAD_BYTES = 2048 };
enum { BYTES = 8, NIBBLES = 4, SIXES = 6 }; /* bits of a value as it lies in memory */

typedef struct {
    const uint8_t *q;     /* (n_out/16, groups, group·bits/2) */
    const uint16_t *d;    /* (n_out/16, groups, 16) fp16 in units of `unit`, or NULL where each row has one d */
    const uint16_t *m;    /* the same, or NULL where m = offset·d */
    const float *row_d;   /* (n_out) where d is NULL */
    int64_t n_in, n_out;  /* n_in a multiple of 32, n_out of 16 */
    int32_t bits, group, offset;
    int32_t act_group;    /* 256 or 32: activations that share a scale */
    float unit;           /* a power of two that puts the largest d or m near the top of fp16's range */
} Packed;

INLINE float half_value(uint16_t h) {
#if defined(__F16C__)
    return _cvtsh_ss(h);
#else
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 1023;
    union { uint32_t u; float f; } c;
    if (e == 0) {
        c.f = m * 5.9604644775390625e-8f; /* 2^-24 */
        c.u |= sign;
    } else
        c.u = sign | (e == 31 ? 0x7F800000 | m << 13 : (e + 112) << 23 | m << 13);
    return c.f;
#endif
}

INLINE uint16_t half_bits(float f) {
#if defined(__F16C__)
    return _cvtss_sh(f, 0);
#else
    union { float f; uint32_t u; } c = {f};
    uint32_t sign = (c.u >> 16) & 0x8000, a = c.u & 0x7FFFFFFF;
    if (a >= 0x47800000) return sign | 0x7C00;
    if (a < 0x38800000) { /* subnormal */
        union { uint32_t u; float f; } b = {a};
        return sign | (uint16_t)lrintf(b.f * 16777216.f);
    }
    return sign | (uint16_t)((a - 0x38000000 + 0xFFF + ((a >> 13) & 1)) >> 13);
#endif
}

INLINE vf half_vector(const uint16_t *h) {
#if defined(__AVX512F__)
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)h));
#else
    vf r;
    for (int i = 0; i < V; i++) r[i] = half_value(h[i]);
    return r;
#endif
}

#if defined(__AVX2__) && !defined(__AVX512VNNI__)
#define EIGHT_ROWS /* a tile of its own, below */
enum { MAX_TILE = 4 };
#else
enum { MAX_TILE = 6 };

/* acc[lane] += Σ_4 w[4·lane + i] · x[i], w unsigned, x signed */
INLINE vi dot4(vi acc, vq w, const int8_t *x) {
#if defined(__AVX512VNNI__)
    int32_t four;
    memcpy(&four, x, 4);
    return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, _mm512_set1_epi32(four));
#else
    for (int l = 0; l < V; l++)
        acc[l] += w[4 * l] * x[0] + w[4 * l + 1] * x[1] + w[4 * l + 2] * x[2] + w[4 * l + 3] * x[3];
    return acc;
#endif
}
#endif

/* ---- activations ------------------------------------------------------------------------------------------------- */

typedef struct {
    int8_t *x;     /* (T, n_in) */
    float *scale;  /* (T, n_in / act_group) */
    float *sums;   /* (T, n_in / group): sums of x, where the weight has minima */
    int32_t *start; /* (T, n_in / group): -offset · sums of x, where it has an offset */
} Activations;

/* 16 values of a row of n_given, zeros behind them. */
INLINE vf load_given(const void *x, size_t at, int64_t i, int64_t n_given, int dtype) {
    if (i + V <= n_given) return load(x, at + i, dtype);
    vf v = {0};
    for (int j = 0; i + j < n_given; j++) v[j] = get(x, at + i + j, dtype);
    return v;
}

/* Round one row. */
INLINE void quantize_row(const void *x, size_t at, int64_t n_given, int dtype, const Packed *p, Activations to) {
    int64_t act = p->act_group;
    for (int64_t from = 0; from < p->n_in; from += act) {
        vf high = {0}, poison = {0};
        for (int64_t i = from; i < from + act; i += V) {
            vf v = load_given(x, at, i, n_given, dtype), size = (vf)((vi)v & 0x7FFFFFFF);
            high = choose(less(high, size), size, high);
            poison += v - v;
        }
        float most = largest(high), inverse = most > 0 ? 127.f / most : 0;
        to.scale[from / act] = most / 127.f + sum(poison); /* NaN or an infinity makes all of them NaN */
        for (int64_t i = from; i < from + act; i += p->group) {
            int32_t xs = 0;
            for (int64_t k = i; k < i + p->group; k += V) {
                /* adding 1.5·2^23 rounds to nearest even and leaves the integer in the low bits */
                vi q = (vi)(load_given(x, at, k, n_given, dtype) * inverse + 12582912.f) - 0x4B400000;
                *(vb *)(to.x + k) = narrow8(q);
                xs += total(q);
            }
            if (p->m) to.sums[i / p->group] = (float)xs;
            else to.start[i / p->group] = -p->offset * xs;
        }
    }
}

/* ---- the product ------------------------------------------------------------------------------------------------- */

/* The bytes of a group's steps, from the form in which they lie in memory. */
INLINE void unpack(const uint8_t *w, vq *steps, const int group, const int form) {
    if (form == BYTES)
        for (int k = 0; k < group / 4; k++) steps[k] = *(const vq *)(w + k * 64);
    else {
        const int half = group / 8;
        for (int k = 0; k < half; k++) {
            vq v = *(const vq *)(w + k * 64);
            steps[k] = v & 15;
            steps[half + k] = v >> 4;
        }
        if (form == SIXES) { /* group is 16: four steps */
            vq high = *(const vq *)(w + half * 64);
            for (int k = 0; k < 4; k++) steps[k] |= (high >> (2 * k) & 3) << 4;
        }
    }
}

#if !defined(EIGHT_ROWS)
/* One or two blocks of 16 rows, a few tokens, all of the inner dimension. Where there is one block, its weights are read
 * from memory in one stream, and fetched ahead. */
INLINE void tile(const Packed *p, const uint8_t *const w[2], const int64_t block[2], const int blocks, const Activations *acts,
                 int64_t t0, int tokens, vf out[MAX_TILE][2], const int act_group, const int group, const int form) {
    const int per_act = act_group / group;
    const int64_t bytes = group * form * 2;
    int64_t groups = p->n_in / group, act_groups = p->n_in / act_group, per_block = groups * ROWS;
    const uint16_t *d[2], *m[2];
    for (int b = 0; b < blocks; b++) {
        d[b] = p->d ? p->d + block[b] * per_block : 0;
        m[b] = p->m ? p->m + block[b] * per_block : 0;
    }
    for (int t = 0; t < tokens; t++)
        for (int b = 0; b < blocks; b++) out[t][b] = splat(0);
    for (int64_t act = 0; act < act_groups; act++) {
        vf part[MAX_TILE][2] = {0};
        for (int s = 0; s < per_act; s++) {
            int64_t g = act * per_act + s;
            const int8_t *x = acts->x + t0 * p->n_in + g * group;
            vi acc[MAX_TILE][2];
            for (int t = 0; t < tokens; t++)
                for (int b = 0; b < blocks; b++) acc[t][b] = (vi){0} + (p->m ? 0 : acts->start[(t0 + t) * groups + g]);
            if (form == BYTES)
                for (int k = 0; k < group / 4; k++)
                    for (int b = 0; b < blocks; b++) {
                        vq step = *(const vq *)(w[b] + g * bytes + k * 64);
                        for (int t = 0; t < tokens; t++) acc[t][b] = dot4(acc[t][b], step, x + t * p->n_in + 4 * k);
                    }
            else
                for (int b = 0; b < blocks; b++) {
                    vq steps[8];
                    unpack(w[b] + g * bytes, steps, group, form);
                    for (int k = 0; k < group / 4; k++)
                        for (int t = 0; t < tokens; t++) acc[t][b] = dot4(acc[t][b], steps[k], x + t * p->n_in + 4 * k);
                }
            if (blocks == 1)
                for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(w[0] + g * bytes + line + AHEAD_BYTES);
            for (int b = 0; b < blocks; b++) {
                vf scale = p->d ? half_vector(d[b] + g * ROWS) : splat(1);
                for (int t = 0; t < tokens; t++) {
                    vf sum = __builtin_convertvector(acc[t][b], vf);
                    part[t][b] += p->d ? sum * scale : sum;
                }
                if (p->m) {
                    vf min = half_vector(m[b] + g * ROWS);
                    for (int t = 0; t < tokens; t++) part[t][b] -= min * acts->sums[(t0 + t) * groups + g];
                }
            }
        }
        for (int t = 0; t < tokens; t++)
            for (int b = 0; b < blocks; b++) out[t][b] += part[t][b] * acts->scale[(t0 + t) * act_groups + act];
    }
    for (int b = 0; b < blocks; b++) {
        vf last = p->d ? splat(p->unit) : load(p->row_d, block[b] * ROWS, 0);
        for (int t = 0; t < tokens; t++) out[t][b] *= last;
    }
}

#else
/* A step of eight rows, from the form in which it lies in memory. */
INLINE __m256i step_of(const uint8_t *w, int k, const int group, const int form) {
    const int half = group / 8;
    if (form == BYTES) return _mm256_loadu_si256((const __m256i *)(w + k * 64));
    __m256i v = _mm256_loadu_si256((const __m256i *)(w + k % half * 64));
    v = _mm256_and_si256(k < half ? v : _mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
    if (form == SIXES) {
        __m256i high = _mm256_srli_epi16(_mm256_loadu_si256((const __m256i *)(w + half * 64)), 2 * k);
        v = _mm256_or_si256(v, _mm256_slli_epi16(_mm256_and_si256(high, _mm256_set1_epi8(3)), 4));
    }
    return v;
}

/* Eight rows or twice as many, a few tokens, all of the inner dimension: as many sums as there are registers. Two products
 * are added in 16 bits, where q of 6 bits leaves room; `wide`: q that goes up to 255 is taken less 128 and gives its sign
 * to x, since 2·128·127 has room too, and then the offset is gone as well. w, d and m are those of the first of the rows;
 * they are fetched ahead where all of a block is read at once. */
INLINE void eights(const Packed *p, const uint8_t *w, const uint16_t *d, const uint16_t *m, const Activations *acts, int64_t t0,
                   const int tokens, const int halves, __m256 all[MAX_TILE][2], const int act_group, const int group, const int form,
                   const int wide) {
    const __m256i ones = _mm256_set1_epi16(1), top = _mm256_set1_epi8((char)0x80);
    const int64_t bytes = group * form * 2, n_in = p->n_in, groups = n_in / group, act_groups = n_in / act_group;
    for (int t = 0; t < tokens; t++)
        for (int h = 0; h < halves; h++) all[t][h] = _mm256_setzero_ps();
    for (int64_t act = 0; act < act_groups; act++) {
        __m256 part[MAX_TILE][2];
        for (int t = 0; t < tokens; t++)
            for (int h = 0; h < halves; h++) part[t][h] = _mm256_setzero_ps();
        for (int64_t g = act * (act_group / group); g < (act + 1) * (act_group / group); g++) {
            const int8_t *x = acts->x + t0 * n_in + g * group;
            __m256i sums[MAX_TILE][2];
            for (int t = 0; t < tokens; t++)
                for (int h = 0; h < halves; h++) sums[t][h] = _mm256_set1_epi32(m || wide ? 0 : acts->start[(t0 + t) * groups + g]);
            if (halves == 2)
                for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(w + g * bytes + line + AHEAD_BYTES);
#pragma GCC unroll 8
            for (int k = 0; k < group / 4; k++)
#pragma GCC unroll 2
                for (int h = 0; h < halves; h++) {
                    __m256i q = step_of(w + g * bytes + 32 * h, k, group, form), size = q;
                    if (wide) {
                        q = _mm256_xor_si256(q, top);
                        size = _mm256_abs_epi8(q);
                    }
#pragma GCC unroll 4
                    for (int t = 0; t < tokens; t++) {
                        int32_t four;
                        memcpy(&four, x + t * n_in + 4 * k, 4);
                        __m256i xs = _mm256_set1_epi32(four);
                        __m256i pairs = _mm256_maddubs_epi16(size, wide ? _mm256_sign_epi8(xs, q) : xs);
                        sums[t][h] = _mm256_add_epi32(sums[t][h], _mm256_madd_epi16(pairs, ones));
                    }
                }
            for (int h = 0; h < halves; h++) {
                __m256 scale = d ? _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(d + g * ROWS) + h)) : _mm256_set1_ps(1);
                for (int t = 0; t < tokens; t++) part[t][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[t][h]), scale, part[t][h]);
                if (m) {
                    __m256 min = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(m + g * ROWS) + h));
                    for (int t = 0; t < tokens; t++)
                        part[t][h] = _mm256_fnmadd_ps(min, _mm256_set1_ps(acts->sums[(t0 + t) * groups + g]), part[t][h]);
                }
            }
        }
        for (int t = 0; t < tokens; t++)
            for (int h = 0; h < halves; h++)
                all[t][h] = _mm256_fmadd_ps(part[t][h], _mm256_set1_ps(acts->scale[(t0 + t) * act_groups + act]), all[t][h]);
    }
}

/* As above; where tokens are few, whole blocks, else half of one at a time. */
INLINE void tile(const Packed *p, const uint8_t *const w[2], const int64_t block[2], const int blocks, const Activations *acts,
                 int64_t t0, const int tokens, vf out[MAX_TILE][2], const int act_group, const int group, const int form) {
    const int64_t per_block = p->n_in / group * ROWS;
    const int halves = blocks == 1 ? 2 : 1;
    for (int b = 0; b < blocks; b++)
        for (int first = 0; first < 2; first += halves) {
            const uint8_t *from = w[b] + 32 * first;
            const uint16_t *d = p->d ? p->d + block[b] * per_block + 8 * first : 0, *m = p->m ? p->m + block[b] * per_block + 8 * first : 0;
            __m256 all[MAX_TILE][2];
            if (form == BYTES && p->offset == 128) eights(p, from, d, 0, acts, t0, tokens, halves, all, act_group, group, form, 1);
            else if (m) eights(p, from, d, m, acts, t0, tokens, halves, all, act_group, group, form, 0);
            else eights(p, from, d, 0, acts, t0, tokens, halves, all, act_group, group, form, 0);
            for (int h = 0; h < halves; h++) {
                int64_t row = 8 * (first + h);
                __m256 last = p->d ? _mm256_set1_ps(p->unit) : _mm256_loadu_ps(p->row_d + block[b] * ROWS + row);
                for (int t = 0; t < tokens; t++) _mm256_storeu_ps((float *)&out[t][b] + row, _mm256_mul_ps(all[t][h], last));
            }
        }
}
#endif

/* The kernel for a weight's form; `few` tokens unpack as they go, more find bytes that were unpacked ahead. */
INLINE void tile_of(const Packed *p, const uint8_t *const w[2], const int64_t block[2], const Activations *acts, int64_t t0, int tokens,
                    vf out[MAX_TILE][2], int few) {
#define TILE(blocks, act, group, form) tile(p, w, block, blocks, acts, t0, tokens, out, act, group, form)
    if (!few) {
        if (p->group == 16) TILE(2, 256, 16, BYTES);
        else if (p->act_group == 256) TILE(2, 256, 32, BYTES);
        else TILE(2, 32, 32, BYTES);
    } else if (p->bits == SIXES) TILE(1, 256, 16, SIXES);
    else if (p->bits == NIBBLES && p->act_group == 256) TILE(1, 256, 32, NIBBLES);
    else if (p->bits == NIBBLES) TILE(1, 32, 32, NIBBLES);
    else if (p->act_group == 256) TILE(1, 256, 32, BYTES);
    else TILE(1, 32, 32, BYTES);
#undef TILE
}

/* y (T, n_rows of it) = x (T, n_given) · weightᵀ + bias; x and y of dtype, bias fp32 or NULL. n_given <= n_in, n_rows <= n_out. */
EXPORT int ll_packed_linear(const void *x, int64_t n_given, const Packed *p, const float *bias, void *y, int64_t n_rows, int64_t T,
                            int dtype, int threads) {
    int64_t n_in = p->n_in, blocks = p->n_out / ROWS, block_bytes = n_in * ROWS * p->bits / 8;
    int64_t act_groups = n_in / p->act_group, groups = n_in / p->group;
    char *memory = malloc((size_t)T * (n_in + act_groups * 4 + groups * 8) + 64);
    if (!memory) return 1;
    Activations acts = {.scale = (float *)memory};
    acts.sums = acts.scale + T * act_groups;
    acts.start = (int32_t *)(acts.sums + T * groups);
    acts.x = (int8_t *)(acts.start + T * groups);
    int few = T <= FEW; /* unpacking ahead pays from three tokens on */
    int unpacks = p->bits != BYTES && !few;
    int failed = 0;
#pragma omp parallel num_threads(threads)
    {
        uint8_t *scratch = unpacks ? aligned_alloc(64, (size_t)n_in * 2 * ROWS) : 0;
        if (unpacks && !scratch) failed = 1;
#pragma omp for schedule(static)
        for (int64_t t = 0; t < T; t++) {
            Activations row = {acts.x + t * n_in, acts.scale + t * act_groups, acts.sums + t * groups, acts.start + t * groups};
            quantize_row(x, (size_t)t * n_given, n_given, dtype, p, row);
        }
#pragma omp for schedule(static)
        for (int64_t first = 0; first < blocks; first += few ? 1 : 2) {
            if (failed) continue;
            int n_blocks = !few && first + 1 < blocks ? 2 : 1;
            const int64_t block[2] = {first, first + n_blocks - 1}; /* an odd last one is done twice */
            const uint8_t *w[2] = {p->q + block[0] * block_bytes, p->q + block[1] * block_bytes};
            if (unpacks) {
                for (int b = 0; b < n_blocks; b++)
                    for (int64_t g = 0; g < groups; g++) {
                        vq *to = (vq *)(scratch + b * n_in * ROWS + g * p->group * ROWS);
                        const uint8_t *from = w[b] + g * p->group * p->bits * 2;
                        if (p->bits == SIXES) unpack(from, to, 16, SIXES);
                        else unpack(from, to, 32, NIBBLES);
                    }
                w[0] = scratch;
                w[1] = scratch + (n_blocks - 1) * n_in * ROWS;
            }
            for (int64_t t0 = 0; t0 < T; t0 += MAX_TILE) {
                int tokens = T - t0 < MAX_TILE ? (int)(T - t0) : MAX_TILE;
                vf out[MAX_TILE][2];
                switch (tokens) {
#if !defined(EIGHT_ROWS)
                case 6: tile_of(p, w, block, &acts, t0, 6, out, 0); break;
                case 5: tile_of(p, w, block, &acts, t0, 5, out, 0); break;
#endif
                case 4: tile_of(p, w, block, &acts, t0, 4, out, 0); break;
                case 3: tile_of(p, w, block, &acts, t0, 3, out, 0); break;
                case 2: tile_of(p, w, block, &acts, t0, 2, out, few); break;
                default: tile_of(p, w, block, &acts, t0, 1, out, few); break;
                }
                for (int b = 0; b < n_blocks; b++) {
                    int64_t o = block[b] * ROWS;
                    for (int t = 0; t < tokens; t++) {
                        if (o + ROWS <= n_rows) {
                            vf value = out[t][b];
                            if (bias) value += load(bias, o, 0);
                            store(y, (size_t)(t0 + t) * n_rows + o, value, dtype);
                        } else
                            for (int i = 0; o + i < n_rows; i++)
                                put(y, (size_t)(t0 + t) * n_rows + o + i, out[t][b][i] + (bias ? bias[o + i] : 0), dtype);
                    }
                }
            }
        }
        free(scratch);
    }
    free(memory);
    return failed;
}

/* ---- from GGUF ----------------------------------------------------------------------------------------------------- */

enum { Q4_0 = 2, Q4_1 = 3, Q8_0 = 8, Q4_K = 12, Q5_K = 13, Q6_K = 14 }; /* ggml's numbers */

/* One block of a row as unsigned q and, per group, d and m; a value is d·q - m. */
typedef struct {
    uint8_t q[256];
    float d[16], m[16];
} Values;

static int block_values(int type) { return type >= Q4_K ? 256 : 32; }

static int64_t block_bytes_of(int type) {
    switch (type) {
    case Q4_0: return 18;
    case Q4_1: return 20;
    case Q8_0: return 34;
    case Q4_K: return 144;
    case Q5_K: return 176;
    default: return 210; /* Q6_K */
    }
}

INLINE uint16_t half_at(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

/* The eight 6-bit scales and minima that Q4_K and Q5_K keep in 12 bytes. */
static void k_scale(const uint8_t *s, int j, float *scale, float *min) {
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        *min = (s[j + 4] >> 4) | (s[j] >> 6) << 4;
    }
}

static void read_block(int type, const uint8_t *b, Values *v) {
    float d = half_value(half_at(b));
    if (type == Q4_0 || type == Q4_1) {
        const uint8_t *q = b + (type == Q4_1 ? 4 : 2);
        for (int i = 0; i < 16; i++) {
            v->q[i] = q[i] & 15;
            v->q[i + 16] = q[i] >> 4;
        }
        v->d[0] = d;
        v->m[0] = type == Q4_1 ? -half_value(half_at(b + 2)) : 8 * d;
    } else if (type == Q8_0) {
        for (int i = 0; i < 32; i++) v->q[i] = (uint8_t)(b[2 + i] + 128);
        v->d[0] = d;
        v->m[0] = 128 * d;
    } else if (type == Q4_K || type == Q5_K) {
        float dmin = half_value(half_at(b + 2));
        const uint8_t *high = b + 16, *q = b + (type == Q5_K ? 48 : 16);
        for (int j = 0; j < 8; j++) {
            float scale, min;
            k_scale(b + 4, j, &scale, &min);
            v->d[j] = d * scale;
            v->m[j] = dmin * min;
            for (int i = 0; i < 32; i++) {
                uint8_t byte = q[j / 2 * 32 + i], low = j % 2 ? byte >> 4 : byte & 15;
                v->q[j * 32 + i] = low + (type == Q5_K && high[i] >> j & 1 ? 16 : 0);
            }
        }
    } else { /* Q6_K: 128 bytes of low halves, 64 of high bits, 16 scales, d */
        d = half_value(half_at(b + 208));
        const int8_t *scales = (const int8_t *)(b + 192);
        for (int part = 0; part < 2; part++)
            for (int i = 0; i < 32; i++) {
                const uint8_t *low = b + part * 64, high = b[128 + part * 32 + i];
                v->q[part * 128 + i] = (low[i] & 15) | (high & 3) << 4;
                v->q[part * 128 + 32 + i] = (low[32 + i] & 15) | (high >> 2 & 3) << 4;
                v->q[part * 128 + 64 + i] = low[i] >> 4 | (high >> 4 & 3) << 4;
                v->q[part * 128 + 96 + i] = low[32 + i] >> 4 | (high >> 6) << 4;
            }
        for (int g = 0; g < 16; g++) {
            v->d[g] = d * scales[g];
            v->m[g] = 32 * v->d[g];
        }
    }
}

/* Rows of GGUF blocks as fp32: out (n_rows, n_in). */
EXPORT void ll_gguf_rows(int type, const uint8_t *raw, int64_t n_rows, int64_t n_in, float *out, int threads) {
    int n = block_values(type), group = type == Q6_K ? 16 : 32;
    int64_t row_bytes = n_in / n * block_bytes_of(type);
#pragma omp parallel for num_threads(threads) if (n_rows * n_in > 65536)
    for (int64_t r = 0; r < n_rows; r++)
        for (int64_t b = 0; b < n_in / n; b++) {
            Values v;
            read_block(type, raw + r * row_bytes + b * block_bytes_of(type), &v);
            for (int i = 0; i < n; i++) out[r * n_in + b * n + i] = v.d[i / group] * v.q[i] - v.m[i / group];
        }
}

/* Put one row's group of values into its place among 16 rows. */
INLINE void place(const uint8_t *q, uint8_t *to, int lane, int group, int bits) {
    int half = group / 8;
    for (int i = 0; i < group; i++) {
        int step = i / 4, at = lane * 4 + i % 4;
        if (bits == BYTES) to[step * 64 + at] = q[i];
        else {
            uint8_t *byte = to + step % half * 64 + at, low = q[i] & 15;
            *byte = step < half ? low : *byte | low << 4;
            if (bits == SIXES) {
                uint8_t *high = to + half * 64 + at;
                *high = (step ? *high : 0) | q[i] >> 4 << (2 * step);
            }
        }
    }
}

/* A bound on all d and m of these blocks, from what each keeps in fp16. */
INLINE float block_bound(int type, const uint8_t *b) {
    float d = fabsf(half_value(half_at(b + (type == Q6_K ? 208 : 0))));
    if (type == Q4_0 || type == Q8_0) return d;
    if (type == Q6_K) return d * 128;
    float m = fabsf(half_value(half_at(b + 2)));
    float most = d > m ? d : m;
    return type == Q4_1 ? most : most * 63;
}

EXPORT float ll_gguf_bound(int type, const uint8_t *raw, int64_t n_blocks, int threads) {
    float most = 0;
    int64_t bytes = block_bytes_of(type);
#pragma omp parallel for num_threads(threads) reduction(max : most)
    for (int64_t b = 0; b < n_blocks; b++) {
        float bound = block_bound(type, raw + b * bytes);
        if (bound > most) most = bound;
    }
    return most;
}

/* GGUF rows (n_rows, n_in) into a packed weight's memory; rows beyond n_rows up to n_out are zero. */
EXPORT void ll_pack_gguf(int type, const uint8_t *raw, int64_t n_rows, const Packed *p, int threads) {
    int n = block_values(type), group = p->group;
    int64_t row_bytes = p->n_in / n * block_bytes_of(type), groups = p->n_in / group, group_bytes = (int64_t)group * ROWS * p->bits / 8;
    float inverse = 1.f / p->unit;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t block = 0; block < p->n_out / ROWS; block++)
        for (int64_t b = 0; b < p->n_in / n; b++)
            for (int lane = 0; lane < ROWS; lane++) {
                Values v;
                int64_t row = block * ROWS + lane;
                if (row < n_rows) read_block(type, raw + row * row_bytes + b * block_bytes_of(type), &v);
                else memset(&v, 0, sizeof v);
                for (int j = 0; j < n / group; j++) {
                    int64_t g = block * groups + b * (n / group) + j;
                    place(v.q + j * group, (uint8_t *)p->q + g * group_bytes, lane, group, p->bits);
                    ((uint16_t *)p->d)[g * ROWS + lane] = half_bits(v.d[j] * inverse);
                    if (p->m) ((uint16_t *)p->m)[g * ROWS + lane] = half_bits(v.m[j] * inverse);
                }
            }
}

/* int8 rows (n_rows, n_given) with one scale per row into a packed weight's memory (bits 8, group 32, offset 128). */
EXPORT void ll_pack_int8(const int8_t *weight, const float *scale, int64_t n_rows, int64_t n_given, const Packed *p, int threads) {
    int64_t groups = p->n_in / 32;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t block = 0; block < p->n_out / ROWS; block++)
        for (int lane = 0; lane < ROWS; lane++) {
            int64_t row = block * ROWS + lane;
            ((float *)p->row_d)[row] = row < n_rows ? scale[row] : 0;
            for (int64_t g = 0; g < groups; g++) {
                uint8_t q[32];
                for (int i = 0; i < 32; i++) {
                    int64_t k = g * 32 + i;
                    q[i] = (uint8_t)(128 + (row < n_rows && k < n_given ? weight[row * n_given + k] : 0));
                }
                place(q, (uint8_t *)p->q + (block * groups + g) * 512, lane, 32, 8);
            }
        }
}
