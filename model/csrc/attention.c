/* Causal attention over keys and values in blocks, with a running softmax (arXiv:1805.02867, arXiv:2205.14135).
 * Letters: L chunk length, H query heads, K kv heads, G = H / K, hd head_dim. */
#include "vectors.h"

#if defined(__AVX512BF16__)
typedef uint32_t pair; /* two neighbouring bf16 values of the inner dimension */
INLINE vf dot_pairs(vf acc, const pair *a, vi b) {
    return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_set1_epi32((int)*a), (__m512bh)b);
}
#endif

enum { TILE_ROWS = 6, FEW_ROWS = 12, KEY_BLOCK = 256 };

/* C (rows, 64) = A (rows, inner) · B (inner, 64), packed with 64 columns side by side; rows <= 6. fp32. */
INLINE void product_tile(const float *a, int64_t a_stride, const float *b, float *c, int64_t c_stride, int64_t inner, const int rows,
                         int add) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    for (int column = 0; column < 64; column += 16) { /* as many sums as there are registers */
        __m256 acc[TILE_ROWS][2];
        for (int r = 0; r < rows; r++)
            for (int h = 0; h < 2; h++) acc[r][h] = add ? _mm256_loadu_ps(c + r * c_stride + column + 8 * h) : _mm256_setzero_ps();
        for (int64_t k = 0; k < inner; k++) {
            __m256 b0 = _mm256_loadu_ps(b + k * 64 + column), b1 = _mm256_loadu_ps(b + k * 64 + column + 8);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                __m256 av = _mm256_broadcast_ss(a + r * a_stride + k);
                acc[r][0] = _mm256_fmadd_ps(av, b0, acc[r][0]);
                acc[r][1] = _mm256_fmadd_ps(av, b1, acc[r][1]);
            }
        }
        for (int r = 0; r < rows; r++)
            for (int h = 0; h < 2; h++) _mm256_storeu_ps(c + r * c_stride + column + 8 * h, acc[r][h]);
    }
#else
    vf acc[TILE_ROWS][4];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) acc[r][j] = add ? load(c, r * c_stride + j * V, 0) : splat(0);
    for (int64_t k = 0; k < inner; k++) {
        vf b0 = load(b, k * 64, 0), b1 = load(b, k * 64 + 16, 0), b2 = load(b, k * 64 + 32, 0), b3 = load(b, k * 64 + 48, 0);
        for (int r = 0; r < rows; r++) {
            float av = a[r * a_stride + k];
            acc[r][0] += av * b0;
            acc[r][1] += av * b1;
            acc[r][2] += av * b2;
            acc[r][3] += av * b3;
        }
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) store(c, r * c_stride + j * V, acc[r][j], 0);
#endif
}

#if defined(__AVX512BF16__)
/* The same over pairs of bf16: B is packed as (inner / 2, 64, 2). */
INLINE void product_tile_bf16(const pair *a, int64_t a_stride, const pair *b, float *c, int64_t c_stride, int64_t inner, int rows,
                              int add) {
    vf acc[TILE_ROWS][4];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) acc[r][j] = add ? load(c, r * c_stride + j * V, 0) : splat(0);
    for (int64_t k = 0; k < inner / 2; k++) {
        const vi *bk = (const vi *)(b + k * 64);
        vi b0 = bk[0], b1 = bk[1], b2 = bk[2], b3 = bk[3];
        for (int r = 0; r < rows; r++) {
            const pair *ar = a + r * a_stride + k;
            acc[r][0] = dot_pairs(acc[r][0], ar, b0);
            acc[r][1] = dot_pairs(acc[r][1], ar, b1);
            acc[r][2] = dot_pairs(acc[r][2], ar, b2);
            acc[r][3] = dot_pairs(acc[r][3], ar, b3);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 4; j++) store(c, r * c_stride + j * V, acc[r][j], 0);
}
#endif

#define FOR_ROWS(call) \
    switch (rows) {    \
    case 6: call(6); break; \
    case 5: call(5); break; \
    case 4: call(4); break; \
    case 3: call(3); break; \
    case 2: call(2); break; \
    default: call(1); break; \
    }

static void product(const void *a, int64_t a_stride, const void *b, float *c, int64_t c_stride, int64_t inner, int rows, int add,
                    int bf16) {
#if defined(__AVX512BF16__)
    if (bf16) {
#define CALL(n) product_tile_bf16(a, a_stride, b, c, c_stride, inner, n, add)
        FOR_ROWS(CALL)
#undef CALL
        return;
    }
#endif
    (void)bf16;
#define CALL(n) product_tile(a, a_stride, b, c, c_stride, inner, n, add)
    FOR_ROWS(CALL)
#undef CALL
}

/* Keys (n, hd) -> (inner, 64 keys) panels, so that lanes are keys; values (n, hd) -> (inner = keys, 64 of hd) panels. */
static void pack_keys(const void *keys, int64_t n, int64_t hd, void *out, int dtype, int bf16) {
    int64_t panels = (n + 63) / 64;
    for (int64_t p = 0; p < panels; p++)
        for (int64_t j = 0; j < 64; j++) {
            int64_t key = p * 64 + j;
            if (bf16) {
                uint32_t *to = (uint32_t *)out + p * 64 * (hd / 2) + j;
                const uint32_t *from = (const uint32_t *)((const uint16_t *)keys + key * hd);
                for (int64_t k = 0; k < hd / 2; k++) to[k * 64] = key < n ? from[k] : 0;
            } else {
                float *to = (float *)out + p * 64 * hd + j;
                for (int64_t k = 0; k < hd; k++) to[k * 64] = key < n ? get(keys, key * hd + k, dtype) : 0;
            }
        }
}

static void pack_values(const void *values, int64_t n, int64_t hd, void *out, int dtype, int bf16) {
    int64_t panels = (hd + 63) / 64, padded = (n + 1) / 2 * 2;
    for (int64_t p = 0; p < panels; p++)
        for (int64_t key = 0; key < padded; key++)
            for (int64_t j = 0; j < 64; j++) {
                int64_t i = p * 64 + j;
                int inside = key < n && i < hd;
                if (bf16) {
                    uint16_t *to = (uint16_t *)out + p * KEY_BLOCK * 64 + (key / 2) * 128 + j * 2 + key % 2;
                    *to = inside ? ((const uint16_t *)values)[key * hd + i] : 0;
                } else {
                    float *to = (float *)out + p * KEY_BLOCK * 64 + key * 64 + j;
                    *to = inside ? get(values, key * hd + i, dtype) : 0;
                }
            }
}

/* One step of the running softmax: scores become weights relative to the new maximum (exponents in base 2, times
 * `scale`); returns what everything before is to be multiplied by. */
INLINE float soften(float *s, int64_t cols, float scale, float *highest, float *total_weight) {
    vf high = splat(-INFINITY), added = {0};
    for (int64_t j = 0; j < cols; j += V) {
        vf v = load(s, j, 0);
        high = choose(less(high, v), v, high);
    }
    float most = fmaxf(*highest, largest(high) * scale);
    float base = most == -INFINITY ? 0 : most, shrink = exp2f(*highest - base);
    for (int64_t j = 0; j < cols; j += V) {
        vf v = load(s, j, 0);
        vf w = choose(same(v, splat(-INFINITY)), splat(0), exp2v(v * scale - base));
        added += w;
        store(s, j, w, 0);
    }
    *total_weight = *total_weight * shrink + sum(added);
    *highest = most;
    return shrink;
}

/* What one thread does: some rows (query heads × tokens) of one kv head over some keys. */
typedef struct {
    const void *const *keys, *const *values; /* blocks (K, block_tokens, hd) */
    int64_t block_tokens, first_key, end_key, n_before, hd, hd_padded, G, first_row, n_rows;
    const void *q; /* (L, H, hd), tokens q_stride apart */
    int64_t q_stride, head; /* head: index of the kv head */
    float *out, *highest, *total; /* (n_rows, hd_padded), (n_rows), (n_rows) */
    int q_dtype, kv_dtype, bf16;
} Part;

/* Row r is query head r % G of token r / G: neighbours see the same keys, so that masks end in few tiles. */
static void attend_part(const Part *p) {
    int64_t hd = p->hd, hp = p->hd_padded;
    size_t element = p->bf16 ? 2 : 4;
    char *rows_q = malloc((size_t)p->n_rows * hd * element + 64);
    char *packed_k = malloc((size_t)KEY_BLOCK * hd * element + 64), *packed_v = malloc((size_t)KEY_BLOCK * hp * element + 64);
    float scores[TILE_ROWS * KEY_BLOCK];
    uint16_t weights[TILE_ROWS * KEY_BLOCK];
    float scale = LOG2E / sqrtf((float)hd); /* exponents in base 2 */
    for (int64_t r = 0; r < p->n_rows; r++) {
        int64_t row = p->first_row + r;
        size_t from = (size_t)(row / p->G) * p->q_stride + (p->head * p->G + row % p->G) * hd;
        for (int64_t i = 0; i < hd; i++) {
            if (p->bf16) ((uint16_t *)rows_q)[r * hd + i] = narrow(get(p->q, from + i, p->q_dtype));
            else ((float *)rows_q)[r * hd + i] = get(p->q, from + i, p->q_dtype);
        }
        p->highest[r] = -INFINITY;
        p->total[r] = 0;
    }
    memset(p->out, 0, (size_t)p->n_rows * hp * sizeof(float));
    int64_t last_seen = p->n_before + (p->first_row + p->n_rows - 1) / p->G; /* last key that any row sees */
    int64_t end = p->end_key < last_seen + 1 ? p->end_key : last_seen + 1;
    for (int64_t k0 = p->first_key; k0 < end;) {
        int64_t block = k0 / p->block_tokens, in_block = k0 % p->block_tokens;
        int64_t n = p->block_tokens - in_block;
        if (n > KEY_BLOCK) n = KEY_BLOCK;
        if (n > end - k0) n = end - k0;
        size_t at = ((size_t)p->head * p->block_tokens + in_block) * hd * (p->kv_dtype ? 2 : 4);
        pack_keys((const char *)p->keys[block] + at, n, hd, packed_k, p->kv_dtype, p->bf16);
        pack_values((const char *)p->values[block] + at, n, hd, packed_v, p->kv_dtype, p->bf16);
        for (int64_t r0 = 0; r0 < p->n_rows; r0 += TILE_ROWS) {
            int rows = p->n_rows - r0 < TILE_ROWS ? (int)(p->n_rows - r0) : TILE_ROWS;
            if (p->n_before + (p->first_row + r0 + rows - 1) / p->G < k0) continue; /* all keys lie ahead of these rows */
            int64_t cols = (n + 63) / 64 * 64;
            for (int64_t c = 0; c < cols; c += 64)
                product(rows_q + (size_t)r0 * hd * element, p->bf16 ? hd / 2 : hd, packed_k + (size_t)c * hd * element,
                        scores + c, KEY_BLOCK, hd, rows, 0, p->bf16);
            for (int r = 0; r < rows; r++) {
                float *s = scores + r * KEY_BLOCK;
                int64_t sees = p->n_before + (p->first_row + r0 + r) / p->G - k0 + 1; /* keys of this block that it sees */
                if (sees > n) sees = n;
                if (sees < 0) sees = 0;
                for (int64_t j = sees; j < cols; j++) s[j] = -INFINITY;
                float shrink = soften(s, cols, scale, &p->highest[r0 + r], &p->total[r0 + r]);
                if (p->bf16)
                    for (int64_t j = 0; j < cols; j += V) store(weights + r * KEY_BLOCK, j, load(s, j, 0), 1);
                float *o = p->out + (size_t)(r0 + r) * hp;
                if (shrink != 1)
                    for (int64_t i = 0; i < hp; i += V) store(o, i, load(o, i, 0) * shrink, 0);
            }
            int64_t inner = (n + 1) / 2 * 2;
            const void *w = p->bf16 ? (const void *)weights : (const void *)scores;
            for (int64_t c = 0; c < hp; c += 64)
                product(w, p->bf16 ? KEY_BLOCK / 2 : KEY_BLOCK, packed_v + (size_t)c * KEY_BLOCK * element,
                        p->out + (size_t)r0 * hp + c, hp, inner, rows, 1, p->bf16);
        }
        k0 += n;
    }
    free(rows_q);
    free(packed_k);
    free(packed_v);
}

/* The same for a few rows, as when one token is decoded: packing the keys would cost more than it saves. */
static void attend_few(const Part *p) {
    enum { MAX_VECTORS = 256 / V };
    int64_t hd = p->hd, hp = p->hd_padded;
    int vectors = (int)(hd / V);
    float scores[FEW_ROWS][KEY_BLOCK], scale = LOG2E / sqrtf((float)hd);
    vf q[FEW_ROWS][MAX_VECTORS];
    for (int64_t r = 0; r < p->n_rows; r++) {
        int64_t row = p->first_row + r;
        size_t from = (size_t)(row / p->G) * p->q_stride + (p->head * p->G + row % p->G) * hd;
        for (int i = 0; i < vectors; i++) q[r][i] = load(p->q, from + i * V, p->q_dtype) * scale;
        p->highest[r] = -INFINITY;
        p->total[r] = 0;
    }
    memset(p->out, 0, (size_t)p->n_rows * hp * sizeof(float));
    for (int64_t k0 = p->first_key; k0 < p->end_key;) {
        int64_t block = k0 / p->block_tokens, in_block = k0 % p->block_tokens, n = p->block_tokens - in_block;
        if (n > KEY_BLOCK) n = KEY_BLOCK;
        if (n > p->end_key - k0) n = p->end_key - k0;
        size_t at = ((size_t)p->head * p->block_tokens + in_block) * hd;
        for (int64_t j = 0; j < n; j++) {
            vf key[MAX_VECTORS];
            for (int i = 0; i < vectors; i++) key[i] = load(p->keys[block], at + j * hd + i * V, p->kv_dtype);
            for (int64_t r = 0; r < p->n_rows; r++) {
                vf even = {0}, odd = {0};
                for (int i = 0; i < vectors; i += 2) even += q[r][i] * key[i];
                for (int i = 1; i < vectors; i += 2) odd += q[r][i] * key[i];
                int sees = k0 + j <= p->n_before + (p->first_row + r) / p->G;
                scores[r][j] = sees ? sum(even + odd) : -INFINITY;
            }
        }
        int64_t cols = (n + V - 1) / V * V;
        for (int64_t r = 0; r < p->n_rows; r++) {
            for (int64_t j = n; j < cols; j++) scores[r][j] = -INFINITY;
            float *o = p->out + r * hp, shrink = soften(scores[r], cols, 1, &p->highest[r], &p->total[r]);
            vf acc[MAX_VECTORS];
            for (int i = 0; i < vectors; i++) acc[i] = load(o, i * V, 0) * shrink;
            for (int64_t j = 0; j < n; j++) {
                float w = scores[r][j];
                for (int i = 0; i < vectors; i++) acc[i] += w * load(p->values[block], at + j * hd + i * V, p->kv_dtype);
            }
            for (int i = 0; i < vectors; i++) store(o, i * V, acc[i], 0);
        }
        k0 += n;
    }
}

/* Causal attention of the last L of n tokens over all n, whose keys and values lie in blocks; q and out (L, H, hd). */
EXPORT int ll_attend(const void *q, int64_t q_stride, const void *const *keys, const void *const *values, void *out, int64_t L,
                     int64_t n, int64_t H, int64_t K, int64_t hd, int64_t block_tokens, int q_dtype, int kv_dtype, int threads) {
    int64_t G = H / K, rows = G * L, hp = (hd + 63) / 64 * 64;
#if defined(__AVX512BF16__)
    int bf16 = kv_dtype == 1; /* many rows are multiplied as the keys are kept; queries in fp32 are rounded for it */
#else
    int bf16 = 0;
#endif
    /* Enough parts for the threads: of the rows where there are many, of the keys where a few rows see many. */
    int64_t want = 2 * threads, row_parts = 1, key_parts = 1;
    while (K * row_parts < want && rows / (row_parts + 1) >= 48) row_parts++;
    while (K * row_parts * key_parts < threads && n / (key_parts + 1) >= 2 * KEY_BLOCK) key_parts++;
    int64_t parts = K * row_parts * key_parts;
    float *results = malloc((size_t)K * key_parts * rows * (hp + 2) * sizeof(float));
    if (!results) return 1;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < parts; i++) {
        int64_t k_part = i % key_parts, r_part = row_parts - 1 - i / key_parts % row_parts, head = i / (key_parts * row_parts);
        int64_t from = rows * r_part / row_parts, to = rows * (r_part + 1) / row_parts;
        float *result = results + (size_t)(head * key_parts + k_part) * rows * (hp + 2);
        Part part = {
            .keys = keys, .values = values, .block_tokens = block_tokens,
            .first_key = n * k_part / key_parts, .end_key = n * (k_part + 1) / key_parts, .n_before = n - L,
            .hd = hd, .hd_padded = hp, .G = G, .first_row = from, .n_rows = to - from,
            .q = q, .q_stride = q_stride, .head = head,
            .out = result + from * hp, .highest = result + rows * hp + from, .total = result + rows * (hp + 1) + from,
            .q_dtype = q_dtype, .kv_dtype = kv_dtype, .bf16 = bf16,
        };
        if (part.n_rows <= FEW_ROWS) attend_few(&part);
        else attend_part(&part);
    }
#pragma omp parallel for num_threads(threads) if (rows > 64)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t head = 0; head < K; head++) {
            const float *first = results + (size_t)head * key_parts * rows * (hp + 2);
            float most = -INFINITY, total = 0;
            for (int64_t k = 0; k < key_parts; k++) {
                float h = first[k * rows * (hp + 2) + rows * hp + row];
                if (h > most) most = h;
            }
            size_t to = ((size_t)(row / G) * H + head * G + row % G) * hd;
            float merged[256] = {0};
            for (int64_t k = 0; k < key_parts; k++) {
                const float *result = first + k * rows * (hp + 2);
                float h = result[rows * hp + row];
                if (h == -INFINITY) continue;
                float scale = exp2f(h - most);
                total += scale * result[rows * (hp + 1) + row];
                for (int64_t i = 0; i < hd; i++) merged[i] += scale * result[row * hp + i];
            }
            for (int64_t i = 0; i < hd; i++) put(out, to + i, merged[i] / total, q_dtype);
        }
    free(results);
    return 0;
}
