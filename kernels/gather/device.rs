//! The law on a device: a launch for each part.

use crate::gpu::rows::{pack_of_all, wide};
use crate::gpu::{Argument::*, Grid, Source, launch, source};
use candle_core::{Result, Tensor};

const KERNEL: Source = source!("gather");

pub(super) fn lay(y: &Tensor, start: usize, x: &Tensor) -> Result<()> {
    let (n, pack) = (x.elem_count(), pack_of_all(&[x]));
    let arguments = [Read(x), Write(&y.narrow(0, start, n)?), Length(n)];
    launch(&KERNEL, &wide("lay", pack), x.dtype(), Grid::of_elements(n.div_ceil(pack)), &arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SIZES, TYPES, distance, filled, on_devices, there};
    use candle_core::DType;

    #[test]
    fn parts_lie_at_their_places() {
        on_devices(|device| {
            for (n, (dtype, _)) in SIZES.into_iter().flat_map(|n| TYPES.map(|of_type| (n, of_type)))
            {
                let (x, exact) = there(&filled(&[n], 1), dtype, device);
                let y = Tensor::zeros(n + 5, DType::F32, device).unwrap();
                lay(&y, 3, &x).unwrap();
                assert!(distance(&y.narrow(0, 3, n).unwrap(), &exact) <= 0., "{n} {dtype:?}");
                let rest =
                    [0, 1, 2, n + 3, n + 4].map(|i| y.get(i).unwrap().to_vec0::<f32>().unwrap());
                assert!(rest.iter().all(|y| *y == 0.));
            }
        });
    }
}
