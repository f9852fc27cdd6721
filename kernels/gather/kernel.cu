// A tensor widened into a run of another one: bandwidth is the limit, each number is read once and written once.
#include "shared.cuh"

namespace gather {

// y <- x, a thread for each pack; y begins where the part does.
template <class T, unsigned V> __device__ void lay(const T *x, float *y, length_t n) {
    length_t i = ((length_t)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= n) return;
    float own[V];
    read<V>(x + i, own, n - i);
    for (unsigned v = 0; v < V; v++)
        if (i + v < n) y[i + v] = own[v];
}

} // namespace gather

#define KERNELS(suffix, T, V)                                                                                          \
    KERNEL(gather_lay_##suffix, const T *x, float *y, unsigned long long n) { gather::lay<T, V>(x, y, n); }
FOR_EACH_PACK(KERNELS)
#undef KERNELS
