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
#define SHARED(type, name, n)                                                                                          \
    static char key_of_##name;                                                                                         \
    type *name = (type *)emulated::shared(&key_of_##name, sizeof(type) * (n))
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

// The value of the thread of the same warp whose lane differs by `bits`.
template <class T> T __shfl_xor_sync(unsigned, T value, unsigned bits) {
    memcpy(emulated::slot(threadIdx.x), &value, sizeof value);
    emulated::warp_barrier();
    T other;
    memcpy(&other, emulated::slot(threadIdx.x ^ bits), sizeof other);
    emulated::warp_barrier();
    return other;
}
