// One step of AdamW in place, over all parameters at once: the law is at the top of mod.rs.
//
// Bandwidth is the limit: 28 bytes an element, four numbers read and three written.
#include "shared.cuh"

namespace adamw {

// `first` is 1 - beta1, `second` beta2, `rest` 1 - beta2 (taken in 64 bits: in 32, 1 - .999 is off by 4e-5),
// `rate` eta / (1 - beta1^t), `root` 1 / sqrt(1 - beta2^t), `keep` 1 - eta * lambda.
template <unsigned V>
__device__ void step(float *theta, float *m, float *v, const float *g, length_t n, float scale, float first,
                     float second, float rest, float rate, float root, float keep, float epsilon) {
    length_t i = ((length_t)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= n) return;
    float of_theta[V], mean[V], square[V], gradient[V];
    read<V>(theta + i, of_theta, n - i);
    read<V>(m + i, mean, n - i);
    read<V>(v + i, square, n - i);
    read<V>(g + i, gradient, n - i);
    for (unsigned k = 0; k < V; k++) {
        float own = scale * gradient[k];
        mean[k] += first * (own - mean[k]);
        square[k] = second * square[k] + rest * (own * own);
        of_theta[k] = keep * of_theta[k] - rate * mean[k] / (sqrtf(square[k]) * root + epsilon);
    }
    write<V>(m + i, mean, n - i);
    write<V>(v + i, square, n - i);
    write<V>(theta + i, of_theta, n - i);
}

} // namespace adamw

#define STEP(suffix, V)                                                                                                \
    KERNEL(adamw_step_##suffix, float *theta, float *m, float *v, const float *g, unsigned long long n, float scale,   \
           float first, float second, float rest, float rate, float root, float keep, float epsilon) {                 \
        adamw::step<V>(theta, m, v, g, n, scale, first, second, rest, rate, root, keep, epsilon);                      \
    }
STEP(f32, 1) STEP(wide_f32, 4)
#undef STEP
