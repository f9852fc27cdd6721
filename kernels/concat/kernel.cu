// Joining along the channels, which come last, and cutting them; the law is in mod.rs.
//
// Moves units of 2, 4 or 16 bytes, whatever they hold. Bandwidth is the limit: each is read and written once.
#include "shared.cuh"

namespace concat {

// [rows, n] and [rows, m] -> y [rows, n + m]; a thread for each unit of y.
template <class Unit>
__device__ void join(const Unit *a, const Unit *b, Unit *y, unsigned all, unsigned n, unsigned m) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= all) return;
    unsigned row = i / (n + m), c = i % (n + m);
    y[i] = c < n ? a[(length_t)row * n + c] : b[(length_t)row * m + c - n];
}

// y [rows, channels] -> its `n` channels from `start`; a thread for each unit of the part.
template <class Unit>
__device__ void cut(const Unit *y, Unit *part, unsigned all, unsigned channels, unsigned start, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < all) part[i] = y[(length_t)(i / n) * channels + start + i % n];
}

} // namespace concat

#define KERNELS(suffix, Unit)                                                                                          \
    KERNEL(concat_join_##suffix, const Unit *a, const Unit *b, Unit *y, unsigned all, unsigned n, unsigned m) {        \
        concat::join<Unit>(a, b, y, all, n, m);                                                                        \
    }                                                                                                                  \
    KERNEL(concat_cut_##suffix, const Unit *y, Unit *part, unsigned all, unsigned channels, unsigned start,            \
           unsigned n) {                                                                                               \
        concat::cut<Unit>(y, part, all, channels, start, n);                                                           \
    }
FOR_EACH_UNIT(KERNELS)
#undef KERNELS
