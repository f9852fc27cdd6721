// Attention on tensor cores, with operands in bfloat16 and sums in 32 bits: logits and probabilities live in registers alone.
//
// Source: Dao 2023 (FlashAttention-2): a tile of keys at a time, the softmax's maximum and sum carried along, what was
// gathered before scaled down where the maximum grows. Forward leaves the logarithm of each softmax's sum, from which
// backward has the probabilities at once. Backward nothing is added by two blocks to one place, so that the result is the
// same each time: one kernel has a block for each tile of queries, another one for each tile of keys.
//
// Work: forward 2 products of queries x keys x depth for each head, backward 7: the probabilities are taken twice.
// Bytes: every block reads its own rows once and those of the other side once; the caches hold these.
//
// Names: q, k, v, o as in the law; s = q.k, p = softmax(s / sqrt(d)) in powers of two, g = the gradient of o.
#pragma once
#include "shared.cuh"

namespace flash {

static const unsigned WARPS = 4, THREADS = WARPS * WARP;
static const unsigned KEYS = 64;    // keys of a tile, where queries own the block
static const unsigned QUERIES = 32; // queries of a tile, where keys do

// Where a head of an image lies: its first token, and how far the next ones are.
struct Tokens {
    const bf16 *first;
    unsigned count, stride, depth;
};

__device__ __forceinline__ Tokens tokens(const bf16 *x, unsigned count, unsigned heads, unsigned depth) {
    length_t image = blockIdx.y / heads, head = blockIdx.y % heads;
    unsigned stride = heads * depth;
    return Tokens{x + image * count * stride + head * depth, count, stride, depth};
}

// Elements from one row of a tile to the next: eight more than it holds, so that a warp's loads meet no bank twice.
template <unsigned D> __device__ __forceinline__ constexpr unsigned pitch() { return D + 8; }

// ROWS tokens from `first` on to shared memory; what is not there is zero.
template <unsigned D, unsigned ROWS> __device__ void fetch(unsigned short *tile, Tokens x, unsigned first) {
    for (unsigned i = threadIdx.x; i < ROWS * (D / 8); i += THREADS) {
        unsigned row = i / (D / 8), column = i % (D / 8) * 8;
        uint4 eight = {0, 0, 0, 0};
        if (first + row < x.count && column < x.depth)
            eight = *(const uint4 *)(x.first + (length_t)(first + row) * x.stride + column);
        *(uint4 *)(tile + row * pitch<D>() + column) = eight;
    }
}

// A warp's 16 rows of the left operand, from `first` on, D / 16 fragments.
template <unsigned D> struct Left {
    unsigned part[D / 16][4];

    __device__ void load(Tokens x, unsigned first) {
        unsigned group = threadIdx.x % WARP / 4, place = threadIdx.x % 4 * 2;
#pragma unroll
        for (unsigned i = 0; i < D / 16 * 4; i++) {
            unsigned row = first + group + i % 2 * 8, column = i / 4 * 16 + i % 4 / 2 * 8 + place;
            bool is_there = row < x.count && column < x.depth;
            part[i / 4][i % 4] = is_there ? *(const unsigned *)(x.first + (length_t)row * x.stride + column) : 0;
        }
    }

    // This thread's share of the rows' inner products.
    __device__ void dot(const Left &other, float (&sums)[2]) const {
        sums[0] = sums[1] = 0;
#pragma unroll
        for (unsigned i = 0; i < D / 16 * 4; i++) {
            unsigned a = part[i / 4][i % 4], b = other.part[i / 4][i % 4];
            sums[i % 2] += __uint_as_float(a << 16) * __uint_as_float(b << 16) +
                           __uint_as_float(a & 0xffff0000u) * __uint_as_float(b & 0xffff0000u);
        }
    }
};

// Sums of a warp: 16 rows, 8 N columns; element 2 i + j of tile n is row (lane / 4 + 8 i), column 8 n + lane % 4 * 2 + j.
template <unsigned N> struct Sums {
    float at[N][4];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (unsigned i = 0; i < N * 4; i++) at[i / 4][i % 4] = 0;
    }

    // `value` in the columns from `n` on, the first being column `first`.
    __device__ __forceinline__ void set_beyond(unsigned first, unsigned n, float value) {
        unsigned column = first + threadIdx.x % 4 * 2;
#pragma unroll
        for (unsigned i = 0; i < N * 4; i++)
            if (column + i / 4 * 8 + i % 2 >= n) at[i / 4][i % 4] = value;
    }

    // += left . tile^T, over D: a column for each row of the tile.
    template <unsigned D> __device__ __forceinline__ void add(const Left<D> &left, const unsigned short *tile) {
        // Eight lanes point at the rows of each of four 8x8 matrices: two tiles of columns, two halves of sixteen of D.
        unsigned lane = threadIdx.x % WARP;
        const unsigned short *own = tile + (lane / 16 * 8 + lane % 8) * pitch<D>() + lane / 8 % 2 * 8;
#pragma unroll
        for (unsigned n = 0; n < N; n += 2)
#pragma unroll
            for (unsigned k = 0; k < D / 16; k++) {
                unsigned right[2][2];
                load_four(right, own + n * 8 * pitch<D>() + k * 16);
                multiply_add(at[n], left.part[k], right[0]);
                multiply_add(at[n + 1], left.part[k], right[1]);
            }
    }

    // += weights . tile, over the tile's 8 M rows.
    template <unsigned M>
    __device__ __forceinline__ void gather(const Sums<M> &weights, const unsigned short *tile) {
        const unsigned row = 8 * N + 8; // the pitch of a tile as deep as the sums are wide
        unsigned lane = threadIdx.x % WARP;
        const unsigned short *own = tile + lane % 16 * row + lane / 16 * 8;
#pragma unroll
        for (unsigned k = 0; k < M / 2; k++) {
            const float *even = weights.at[2 * k], *odd = weights.at[2 * k + 1];
            unsigned left[4] = {pack(even[0], even[1]), pack(even[2], even[3]), pack(odd[0], odd[1]),
                                pack(odd[2], odd[3])};
#pragma unroll
            for (unsigned n = 0; n < N; n += 2) {
                unsigned right[2][2];
                load_four_turned(right, own + k * 16 * row + n * 8);
                multiply_add(at[n], left, right[0]);
                multiply_add(at[n + 1], left, right[1]);
            }
        }
    }

    // Rows from `first` on, each times its own factor.
    __device__ void store(bf16 *to, Tokens like, unsigned first, const float (&factor)[2]) {
        unsigned group = threadIdx.x % WARP / 4, place = threadIdx.x % 4 * 2;
#pragma unroll
        for (unsigned i = 0; i < N * 2; i++) {
            unsigned row = first + group + i % 2 * 8, column = i / 2 * 8 + place;
            if (row < like.count && column < like.depth) {
                const float *two = at[i / 2] + i % 2 * 2;
                *(unsigned *)(to + (length_t)row * like.stride + column) =
                    pack(two[0] * factor[i % 2], two[1] * factor[i % 2]);
            }
        }
    }
};

// `to` where x was found in `from`.
__device__ __forceinline__ bf16 *beside(const Tokens &x, const bf16 *from, bf16 *to) { return to + (x.first - from); }

// The sum, or the maximum, over the four threads that share a row.
__device__ __forceinline__ float row_sum(float x) {
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}
__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

// The softmax of two rows of a warp, carried from tile to tile.
struct Carried {
    float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, shrunk[2];

    // s becomes 2^(scale * (s - largest)), and 0 for keys that are not there; `shrunk` is what all before is scaled by.
    template <unsigned N> __device__ __forceinline__ void see(Sums<N> &s, float scale, unsigned first, unsigned keys) {
        if (first + 8 * N > keys) s.set_beyond(first, keys, -INFINITY);
        float here[2] = {-INFINITY, -INFINITY}, shift[2];
#pragma unroll
        for (unsigned i = 0; i < N * 4; i++) here[i % 4 / 2] = fmaxf(here[i % 4 / 2], s.at[i / 4][i % 4]);
#pragma unroll
        for (unsigned row = 0; row < 2; row++) {
            float most = fmaxf(largest[row], row_max(here[row]));
            shrunk[row] = power_of_two((largest[row] - most) * scale);
            sum[row] *= shrunk[row];
            largest[row] = most;
            shift[row] = most * scale;
        }
#pragma unroll
        for (unsigned i = 0; i < N * 4; i++) {
            float &x = s.at[i / 4][i % 4];
            // An infinite logit or a NaN makes the sum a NaN, and with it the row.
            x = power_of_two(x * scale - shift[i % 4 / 2]);
            sum[i % 4 / 2] += x;
        }
    }
};

static const float LOG2_E = 1.4426950408889634f;

// Where a thread's two rows of a warp's sixteen lie among [images and heads, tokens].
__device__ __forceinline__ length_t place_of_row(unsigned first, unsigned tokens, unsigned row) {
    return (length_t)blockIdx.y * tokens + first + threadIdx.x % WARP / 4 + row * 8;
}

// o, and for each query the logarithm of its softmax's sum in powers of two.
template <unsigned D>
__device__ void forward(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *o, float *shift, unsigned queries,
                        unsigned keys, unsigned heads, unsigned depth, float scale) {
    SHARED_ALIGNED(unsigned short, key_tile, KEYS * pitch<D>());
    SHARED_ALIGNED(unsigned short, value_tile, KEYS * pitch<D>());
    Tokens own = tokens(q, queries, heads, depth), k_all = tokens(k, keys, heads, depth),
           v_all = tokens(v, keys, heads, depth);
    unsigned first = (blockIdx.x * WARPS + threadIdx.x / WARP) * 16;
    Left<D> query;
    query.load(own, first);
    Carried softmax;
    Sums<D / 8> sums;
    sums.clear();
    for (unsigned key = 0; key < keys; key += KEYS) {
        __syncthreads();
        fetch<D, KEYS>(key_tile, k_all, key);
        fetch<D, KEYS>(value_tile, v_all, key);
        __syncthreads();
        Sums<KEYS / 8> p;
        p.clear();
        p.add(query, key_tile);
        softmax.see(p, scale * LOG2_E, key, keys);
#pragma unroll
        for (unsigned i = 0; i < D / 2; i++) sums.at[i / 4][i % 4] *= softmax.shrunk[i % 4 / 2];
        sums.gather(p, value_tile);
    }
    float inverse[2];
    for (unsigned row = 0; row < 2; row++) {
        float sum = row_sum(softmax.sum[row]);
        inverse[row] = 1.f / sum;
        if (threadIdx.x % 4 == 0 && first + threadIdx.x % WARP / 4 + row * 8 < queries)
            shift[place_of_row(first, queries, row)] = softmax.largest[row] * (scale * LOG2_E) + log2f(sum);
    }
    sums.store(beside(own, q, o), own, first, inverse);
}

// dq, and for each query the mean of p's slope: the sum of g * o over the depth.
template <unsigned D>
__device__ void of_queries(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *g, const bf16 *o,
                           const float *shift, bf16 *dq, float *mean, unsigned queries, unsigned keys, unsigned heads,
                           unsigned depth, float scale) {
    SHARED_ALIGNED(unsigned short, key_tile, KEYS * pitch<D>());
    SHARED_ALIGNED(unsigned short, value_tile, KEYS * pitch<D>());
    Tokens own = tokens(q, queries, heads, depth), k_all = tokens(k, keys, heads, depth),
           v_all = tokens(v, keys, heads, depth);
    unsigned first = (blockIdx.x * WARPS + threadIdx.x / WARP) * 16;
    Left<D> query, slope;
    float shifted[2], centre[2];
    slope.load(tokens(o, queries, heads, depth), first);
    query.load(tokens(g, queries, heads, depth), first);
    slope.dot(query, centre);
    slope = query;
    query.load(own, first);
    for (unsigned row = 0; row < 2; row++) {
        centre[row] = row_sum(centre[row]);
        bool is_there = first + threadIdx.x % WARP / 4 + row * 8 < queries;
        length_t at = place_of_row(first, queries, row);
        shifted[row] = is_there ? shift[at] : 0.f;
        if (threadIdx.x % 4 == 0 && is_there) mean[at] = centre[row];
    }
    Sums<KEYS / 8> p, dp;
    Sums<D / 8> sums;
    sums.clear();
    for (unsigned key = 0; key < keys; key += KEYS) {
        __syncthreads();
        fetch<D, KEYS>(key_tile, k_all, key);
        fetch<D, KEYS>(value_tile, v_all, key);
        __syncthreads();
        p.clear();
        p.add(query, key_tile);
        dp.clear();
        dp.add(slope, value_tile);
#pragma unroll
        for (unsigned i = 0; i < KEYS / 2; i++) {
            float weight = power_of_two(p.at[i / 4][i % 4] * (scale * LOG2_E) - shifted[i % 4 / 2]);
            p.at[i / 4][i % 4] = scale * weight * (dp.at[i / 4][i % 4] - centre[i % 4 / 2]);
        }
        // The weight of a key that is not there is a number, or infinite where all logits lie far below zero.
        if (key + KEYS > keys) p.set_beyond(key, keys, 0);
        sums.gather(p, key_tile);
    }
    const float whole[2] = {1, 1};
    sums.store(beside(own, q, dq), own, first, whole);
}

// dk and dv: the same transposed, a row for each key and a column for each query.
template <unsigned D>
__device__ void of_keys(const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *g, const float *shift,
                        const float *mean, bf16 *dk, bf16 *dv, unsigned queries, unsigned keys, unsigned heads,
                        unsigned depth, float scale) {
    SHARED_ALIGNED(unsigned short, query_tile, QUERIES * pitch<D>());
    SHARED_ALIGNED(unsigned short, slope_tile, QUERIES * pitch<D>());
    SHARED(float, shifts, QUERIES);
    SHARED(float, means, QUERIES);
    Tokens own = tokens(k, keys, heads, depth), q_all = tokens(q, queries, heads, depth),
           g_all = tokens(g, queries, heads, depth);
    unsigned first = (blockIdx.x * WARPS + threadIdx.x / WARP) * 16;
    Left<D> key, value;
    key.load(own, first);
    value.load(tokens(v, keys, heads, depth), first);
    Sums<D / 8> key_sums, value_sums;
    key_sums.clear();
    value_sums.clear();
    for (unsigned query = 0; query < queries; query += QUERIES) {
        __syncthreads();
        fetch<D, QUERIES>(query_tile, q_all, query);
        fetch<D, QUERIES>(slope_tile, g_all, query);
        if (threadIdx.x < QUERIES) {
            bool is_there = query + threadIdx.x < queries;
            length_t at = (length_t)blockIdx.y * queries + query + threadIdx.x;
            // A query that is not there gives every key the weight 0.
            shifts[threadIdx.x] = is_there ? shift[at] : INFINITY;
            means[threadIdx.x] = is_there ? mean[at] : 0.f;
        }
        __syncthreads();
        Sums<QUERIES / 8> p, dp;
        p.clear();
        p.add(key, query_tile);
        dp.clear();
        dp.add(value, slope_tile);
#pragma unroll
        for (unsigned i = 0; i < QUERIES / 2; i++) {
            unsigned column = i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
            float weight = power_of_two(p.at[i / 4][i % 4] * (scale * LOG2_E) - shifts[column]);
            p.at[i / 4][i % 4] = weight;
            dp.at[i / 4][i % 4] = scale * weight * (dp.at[i / 4][i % 4] - means[column]);
        }
        value_sums.gather(p, slope_tile);
        key_sums.gather(dp, query_tile);
    }
    const float whole[2] = {1, 1};
    key_sums.store(beside(own, k, dk), own, first, whole);
    value_sums.store(beside(own, k, dv), own, first, whole);
}

} // namespace flash

// Depths in steps of sixteen; what lies between is filled up with zeros.
#define FLASH(D)                                                                                                       \
    KERNEL_OF(128, attention_flash_forward_##D##_bf16, const bf16 *q, const bf16 *k, const bf16 *v, bf16 *o, float *shift, \
           unsigned queries, unsigned keys, unsigned heads, unsigned depth, float scale) {                             \
        flash::forward<D>(q, k, v, o, shift, queries, keys, heads, depth, scale);                                      \
    }                                                                                                                  \
    KERNEL_OF(128, attention_flash_queries_##D##_bf16, const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *g,             \
           const bf16 *o, const float *shift, bf16 *dq, float *mean, unsigned queries, unsigned keys, unsigned heads,  \
           unsigned depth, float scale) {                                                                              \
        flash::of_queries<D>(q, k, v, g, o, shift, dq, mean, queries, keys, heads, depth, scale);                      \
    }                                                                                                                  \
    KERNEL_OF(128, attention_flash_keys_##D##_bf16, const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *g,                \
           const float *shift, const float *mean, bf16 *dk, bf16 *dv, unsigned queries, unsigned keys, unsigned heads, \
           unsigned depth, float scale) {                                                                              \
        flash::of_keys<D>(q, k, v, g, shift, mean, dk, dv, queries, keys, heads, depth, scale);                        \
    }
FLASH(16) FLASH(32) FLASH(48) FLASH(64) FLASH(80) FLASH(96)
#undef FLASH
