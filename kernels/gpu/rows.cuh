// Rows of channels: where a thread stands among them, and sums over the threads of a channel; rows.rs decides the sizes.
#pragma once
#include "shared.cuh"

namespace rows {

static const unsigned THREADS = 256; // of a block, at most

// blockIdx.x is the run of rows, blockIdx.y what it belongs to. Neighbouring threads take neighbouring packs of channels,
// `width` of them; the rest of a block takes other rows, `lanes` at once.
struct Place {
    unsigned column, lane;
    length_t first, last; // rows of the run
    bool is_used;
};

__device__ __forceinline__ Place place(unsigned width, unsigned lanes, unsigned each, unsigned rows) {
    Place p;
    p.column = threadIdx.x % width;
    p.lane = threadIdx.x / width;
    p.first = (length_t)blockIdx.x * each;
    p.last = p.first + each < rows ? p.first + each : rows;
    p.is_used = p.lane < lanes;
    return p;
}

// f(at, row, of_x, of_y) of each of the thread's packs of channels, `c` in its rows; y may be none.
// Eight packs are on their way at once, as a device wants them: what they become is computed after.
template <unsigned V, class T, class F>
__device__ __forceinline__ void each_row(const Place &p, const T *__restrict__ x, const T *__restrict__ y,
                                         unsigned channels, unsigned c, unsigned lanes, F f) {
    const unsigned AHEAD = 4;
    length_t at = (p.first + p.lane) * channels + c, step = (length_t)lanes * channels, k = p.first + p.lane;
    auto rows = [&](unsigned count) {
        Pack<T, V> of_x[AHEAD], of_y[AHEAD];
#pragma unroll
        for (unsigned r = 0; r < AHEAD; r++)
            if (r < count) {
                of_x[r] = *(const Pack<T, V> *)(x + at + r * step);
                if (y) of_y[r] = *(const Pack<T, V> *)(y + at + r * step);
            }
#pragma unroll
        for (unsigned r = 0; r < AHEAD; r++)
            if (r < count) {
                float a[V], b[V];
                of_x[r].to(a);
                if (y) of_y[r].to(b);
                f(at + r * step, k + r * lanes, a, b);
            }
        at += count * step;
        k += (length_t)count * lanes;
    };
    while (k + (AHEAD - 1) * lanes < p.last) rows(AHEAD);
    while (k < p.last) rows(1);
}

// Two sums over the lanes of each channel: emit(i, a, b) for the i-th of the width * V channels that the block is at.
// Every thread of the block must come; what is not used brings zeros.
template <unsigned V, class Emit>
__device__ __forceinline__ void lane_sums(const float (&a)[V], const float (&b)[V], unsigned width, unsigned lanes,
                                          Emit emit) {
    SHARED(float, first, THREADS *V);
    SHARED(float, second, THREADS *V);
    unsigned all = width * lanes;
    __syncthreads(); // The last sums may still be read.
    if (threadIdx.x < all)
#pragma unroll
        for (unsigned v = 0; v < V; v++) {
            first[v * all + threadIdx.x] = a[v];
            second[v * all + threadIdx.x] = b[v];
        }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < width * V; i += blockDim.x) {
        unsigned at = i % V * all + i / V;
        float of_a = 0, of_b = 0;
        for (unsigned lane = 0; lane < lanes; lane++, at += width) {
            of_a += first[at];
            of_b += second[at];
        }
        emit(i, of_a, of_b);
    }
}

} // namespace rows
