// Stands in for a CUDA device on the processor: enough of it that the kernels' own text runs, slowly and strictly.
//
// A block's threads are fibers that run one after another up to the next barrier; blocks follow one another.
// What a real device leaves to chance is chosen by the test: in which order the threads run between barriers.
// Shared memory begins as NaN, and a barrier that only some threads reach ends the program.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define KERNEL(name, ...)                                                                                              \
    extern "C" void name(__VA_ARGS__);                                                                                 \
    static emulated::Entry entry_of_##name(#name, name);                                                               \
    extern "C" void name(__VA_ARGS__)
#define KERNEL_OF(threads, name, ...) KERNEL(name, __VA_ARGS__)
#define SHARED(type, name, n)                                                                                          \
    static char key_of_##name;                                                                                         \
    type *name = (type *)emulated::shared(&key_of_##name, sizeof(type) * (n))
#define SHARED_ALIGNED(type, name, n) SHARED(type, name, n)
#define __syncthreads() emulated::block_barrier()

struct Index {
    unsigned x, y, z;
};

extern Index threadIdx, blockIdx, blockDim, gridDim;

struct uint4 {
    unsigned x, y, z, w;
};

namespace emulated {

void block_barrier();
void warp_barrier();
void *shared(const char *key, size_t bytes);
void *slot(unsigned thread);

template <class T> struct Kind;
template <class T> struct Kind<T *> { static const char letter = 'w'; };
template <class T> struct Kind<const T *> { static const char letter = 'r'; };
template <> struct Kind<unsigned> { static const char letter = 'u'; };
template <> struct Kind<unsigned long long> { static const char letter = 'l'; };
template <> struct Kind<float> { static const char letter = 'f'; };
template <> struct Kind<double> { static const char letter = 'd'; };

typedef void (*Call)(void (*)(), const unsigned long long *);

void enter(const char *name, const char *kinds, Call call, void (*kernel)());

template <class T> T as(unsigned long long word) {
    T value;
    memcpy(&value, &word, sizeof(T));
    return value;
}

// A kernel in the table of all, with the kinds of its parameters.
struct Entry {
    template <class... P> Entry(const char *name, void (*kernel)(P...)) {
        static const char kinds[] = {Kind<P>::letter..., 0};
        enter(name, kinds, call<P...>, (void (*)())kernel);
    }
    template <class... P> static void call(void (*kernel)(), const unsigned long long *words) {
        spread<P...>((void (*)(P...))kernel, words, std::index_sequence_for<P...>());
    }
    template <class... P, size_t... I>
    static void spread(void (*kernel)(P...), const unsigned long long *words, std::index_sequence<I...>) {
        kernel(as<P>(words[I])...);
    }
};

} // namespace emulated

inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float power_of_two(float x) { return exp2f(x); }
inline float __fdividef(float x, float y) { return x / y; }

// The value of the thread of the same warp whose lane differs by `bits`.
template <class T> T __shfl_xor_sync(unsigned, T value, unsigned bits) {
    memcpy(emulated::slot(threadIdx.x), &value, sizeof value);
    emulated::warp_barrier();
    T other;
    memcpy(&other, emulated::slot(threadIdx.x ^ bits), sizeof other);
    emulated::warp_barrier();
    return other;
}

// c [16, 8] += a [16, 16] . b [16, 8] of a warp, in bfloat16; which thread holds what stands in shared.cuh.
inline void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    unsigned *own = (unsigned *)emulated::slot(threadIdx.x), first = threadIdx.x / 32 * 32, lane = threadIdx.x % 32;
    memcpy(own, a, sizeof a);
    memcpy(own + 4, b, sizeof b);
    emulated::warp_barrier();
    auto number = [](unsigned word, unsigned half) { return __uint_as_float(half ? word & 0xffff0000u : word << 16); };
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        float sum = 0;
        for (unsigned k = 0; k < 16; k++) {
            const unsigned *left = (const unsigned *)emulated::slot(first + row % 8 * 4 + k % 8 / 2);
            const unsigned *right = (const unsigned *)emulated::slot(first + column * 4 + k % 8 / 2);
            sum += number(left[row / 8 + k / 8 * 2], k % 2) * number(right[4 + k / 8], k % 2);
        }
        c[i] += sum;
    }
    emulated::warp_barrier();
}

// Four 8 x 8 matrices of halves; which lane points where and gets what stands in shared.cuh.
inline void load_four(unsigned (&r)[2][2], const unsigned short *row, bool is_turned = false) {
    memcpy(emulated::slot(threadIdx.x), &row, sizeof row);
    emulated::warp_barrier();
    unsigned first = threadIdx.x / 32 * 32, lane = threadIdx.x % 32;
    for (unsigned i = 0; i < 4; i++) {
        auto half = [&](unsigned row, unsigned column) {
            const unsigned short *begin;
            memcpy(&begin, emulated::slot(first + 8 * i + row), sizeof begin);
            return (unsigned)begin[column];
        };
        unsigned at = lane / 4, next = lane % 4 * 2;
        r[i / 2][i % 2] = is_turned ? half(next, at) | half(next + 1, at) << 16 : half(at, next) | half(at, next + 1) << 16;
    }
    emulated::warp_barrier();
}
inline void load_four_turned(unsigned (&r)[2][2], const unsigned short *row) { load_four(r, row, true); }
