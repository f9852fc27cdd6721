// One step of AdamW in place, over all parameters at once: the law is at the top of mod.rs.
//
// Bandwidth is the limit: 28 bytes an element, four numbers read and three written.
#include "shared.cuh"

namespace adamw {

// `first` is 1 - beta1, `second` beta2, `rest` 1 - beta2 (taken in 64 bits: in 32, 1 - .999 is off by 4e-5),
// `rate` eta / (1 - beta1^t), `root` 1 / sqrt(1 - beta2^t), `keep` 1 - eta * lambda.
__device__ void step(float *theta, float *m, float *v, const float *g, length_t n, float scale, float first,
                     float second, float rest, float rate, float root, float keep, float epsilon) {
    length_t i = (length_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float gradient = scale * g[i];
    float mean = m[i] + first * (gradient - m[i]);
    float square = second * v[i] + rest * (gradient * gradient);
    m[i] = mean;
    v[i] = square;
    theta[i] = keep * theta[i] - rate * mean / (sqrtf(square) * root + epsilon);
}

} // namespace adamw

KERNEL(adamw_step_f32, float *theta, float *m, float *v, const float *g, unsigned long long n, float scale, float first,
       float second, float rest, float rate, float root, float keep, float epsilon) {
    adamw::step(theta, m, v, g, n, scale, first, second, rest, rate, root, keep, epsilon);
}
