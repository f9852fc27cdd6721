// What the kernels share: number types, sums over a block, and the names that both compilers know.
//
// nvcc compiles every kernel.cu as it stands; the tests compile the same text for the processor behind emulated.h,
// which stands in for everything here that only a device has.
#pragma once

#ifdef LETHE_EMULATED
#include "emulated.h"
#else
// Blocks of at most so many threads, of which two at least share a multiprocessor: told so, the compiler takes the registers
// that loads on their way want.
#define KERNEL(name, ...) extern "C" __global__ void __launch_bounds__(256, 2) name(__VA_ARGS__)
#define KERNEL_OF(threads, name, ...) extern "C" __global__ void __launch_bounds__(threads) name(__VA_ARGS__)
#define SHARED(type, name, n) __shared__ type name[n]
#define SHARED_ALIGNED(type, name, n) __shared__ __align__(16) type name[n]
#endif

// For each storage type one kernel, its name ending as launches expect.
#define FOR_EACH_TYPE(KERNELS) KERNELS(f32, float) KERNELS(bf16, bf16)

// The same twice: for single numbers, and for packs of 16 bytes.
#define FOR_EACH_PACK(KERNELS)                                                                                         \
    KERNELS(f32, float, 1) KERNELS(bf16, bf16, 1) KERNELS(wide_f32, float, 4) KERNELS(wide_bf16, bf16, 8)

// For each size of what is moved without a look inside one kernel: 2, 4 or 16 bytes.
#define FOR_EACH_UNIT(KERNELS) KERNELS(u16, unsigned short) KERNELS(u32, unsigned) KERNELS(u128, uint4)

typedef unsigned long long length_t;

static const unsigned WARP = 32;
static const unsigned MOST_WARPS = 32;

// bfloat16: the upper half of a float. Written out, so that every device and the emulation round alike.
struct bf16 {
    unsigned short bits;
};

__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ float wide(bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }

template <class T> __device__ __forceinline__ T narrow(float x);
template <> __device__ __forceinline__ float narrow<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 narrow<bf16>(float x) {
    unsigned bits = __float_as_uint(x);
    bf16 y;
    // To the nearest, ties to even; a NaN keeps a bit, lest it become an infinity.
    y.bits = x != x ? (unsigned short)(bits >> 16 | 0x40)
                    : (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    return y;
}

#ifndef LETHE_EMULATED
// 2^x within two units of its last place; below 2^-126 it is 0.
__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Products of a whole warp on tensor cores, of devices that have them for bfloat16; the others never launch what asks for them.
//
// c [16, 8] += a [16, 16] . b [16, 8]. Of a thread, with g = lane / 4 and t = 2 (lane % 4), two neighbours a word:
// a: rows g, g + 8, g, g + 8 at columns t, t, t + 8, t + 8; b: rows t and t + 8 at column g; c: columns t, t + 1 of rows g, g + 8.
// Source: PTX ISA, mma.m16n8k16.
__device__ __forceinline__ void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    __trap();
#endif
}

// Four matrices of 8 x 8 halves from shared memory: lane 8 i + j points at row j of matrix i, at a multiple of 16 bytes, and
// gets of each the two neighbours of row lane / 4 at column 2 (lane % 4); turned, those of the transposed matrix.
// Source: PTX ISA, ldmatrix.
__device__ __forceinline__ void load_four(unsigned (&r)[2][2], const unsigned short *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0][0]), "=r"(r[0][1]), "=r"(r[1][0]), "=r"(r[1][1])
                 : "r"((unsigned)__cvta_generic_to_shared(row)));
}
__device__ __forceinline__ void load_four_turned(unsigned (&r)[2][2], const unsigned short *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0][0]), "=r"(r[0][1]), "=r"(r[1][0]), "=r"(r[1][1])
                 : "r"((unsigned)__cvta_generic_to_shared(row)));
}
#endif

// Two numbers in bfloat16, the first one in the lower half.
__device__ __forceinline__ unsigned pack(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
#else
    return narrow<bf16>(low).bits | (unsigned)narrow<bf16>(high).bits << 16;
#endif
}

// V neighbouring numbers as they lie in memory: one, or 16 bytes that are moved at once and begin at a multiple of 16.
template <class T, unsigned V> struct Pack {
    static_assert(V * sizeof(T) == 16, "a pack has 16 bytes");
    uint4 raw;

    __device__ __forceinline__ void to(float (&x)[V]) const {
        unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
        for (unsigned i = 0; i < V; i++) {
            unsigned word = words[i * sizeof(T) / 4];
            x[i] = __uint_as_float(sizeof(T) == 4 ? word : i % 2 ? word & 0xffff0000u : word << 16);
        }
    }

    __device__ __forceinline__ void take(const float (&x)[V]) {
        unsigned words[4];
#pragma unroll
        for (unsigned i = 0; i < 4; i++) {
            if constexpr (V == 4) words[i] = __float_as_uint(x[i]);
            else words[i] = pack(x[2 * i], x[2 * i + 1]);
        }
        raw = uint4{words[0], words[1], words[2], words[3]};
    }
};
template <class T> struct Pack<T, 1> {
    T raw;

    __device__ __forceinline__ void to(float (&x)[1]) const { x[0] = wide(raw); }
    __device__ __forceinline__ void take(const float (&x)[1]) { raw = narrow<T>(x[0]); }
};

template <unsigned V, class T> __device__ __forceinline__ void read(const T *from, float (&x)[V]) {
    ((const Pack<T, V> *)from)->to(x);
}
template <unsigned V, class T> __device__ __forceinline__ void write(T *to, const float (&x)[V]) {
    ((Pack<T, V> *)to)->take(x);
}

// The same where only `left` numbers are there, if fewer; the others are zero, and not written.
template <unsigned V, class T> __device__ __forceinline__ void read(const T *from, float (&x)[V], length_t left) {
    if (left >= V) return read<V>(from, x);
    for (unsigned v = 0; v < V; v++) x[v] = v < left ? wide(from[v]) : 0.f;
}
template <unsigned V, class T> __device__ __forceinline__ void write(T *to, const float (&x)[V], length_t left) {
    if (left >= V) return write<V>(to, x);
    for (unsigned v = 0; v < V; v++)
        if (v < left) to[v] = narrow<T>(x[v]);
}

// 1 / (1 + e^-z); the quotient is within two units of its last place, and takes no branch.
__device__ __forceinline__ float sigmoid(float z) { return __fdividef(1.f, 1.f + expf(-z)); }

// The sum of x over a warp, to all of it.
template <class T> __device__ __forceinline__ T warp_sum(T x) {
    for (unsigned lane = WARP / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(~0u, x, lane);
    return x;
}

// The largest x over a warp, to all of it; a NaN is passed over.
__device__ __forceinline__ float warp_max(float x) {
    for (unsigned lane = WARP / 2; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, lane));
    return x;
}

// The sum of x over all threads of the block, to all of them, in an order that depends on their number alone.
template <class T> __device__ __forceinline__ T block_sum(T x) {
    SHARED(T, sums, MOST_WARPS);
    x = warp_sum(x);
    __syncthreads(); // The last call's sums may still be read.
    if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = x;
    __syncthreads();
    T total = sums[0];
    for (unsigned warp = 1; warp < blockDim.x / WARP; warp++) total += sums[warp];
    return total;
}

// The largest x over all threads of the block, to all of them; a NaN is passed over.
template <class T> __device__ __forceinline__ T block_max(T x) {
    SHARED(T, largest, MOST_WARPS);
    for (unsigned lane = WARP / 2; lane > 0; lane /= 2) {
        T other = __shfl_xor_sync(~0u, x, lane);
        if (!(x >= other)) x = other; // Also where x itself is a NaN.
    }
    __syncthreads();
    if (threadIdx.x % WARP == 0) largest[threadIdx.x / WARP] = x;
    __syncthreads();
    T total = largest[0];
    for (unsigned warp = 1; warp < blockDim.x / WARP; warp++)
        if (!(total >= largest[warp])) total = largest[warp];
    return total;
}
