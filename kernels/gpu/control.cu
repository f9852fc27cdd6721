// Kernels that are wrong on purpose, compiled for the emulation alone: the control of its tests.
#include "shared.cuh"

// y[i] = x[n - 1 - i] through shared memory, without the barrier between writing and reading.
KERNEL(control_race_f32, const float *x, float *y, unsigned n) {
    SHARED(float, held, 64);
    held[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = held[n - 1 - threadIdx.x];
}

// The same with it.
KERNEL(control_barrier_f32, const float *x, float *y, unsigned n) {
    SHARED(float, held, 64);
    held[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = held[n - 1 - threadIdx.x];
}

// y = x, but for the last element.
KERNEL(control_forgets_f32, const float *x, float *y, unsigned n) {
    if (threadIdx.x + 1 < n) y[threadIdx.x] = x[threadIdx.x];
}
