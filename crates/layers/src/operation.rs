//! The kernels as steps of a tape: value forward, gradients backward, nothing kept that no gradient needs.
//!
//! Images are [batch, height, width, channels], tokens [batch, tokens, channels].

use candle_core::{D, Result, Tensor};
use lethe_candlex::tape::{Slot, Tape, Value};
use lethe_kernels::conv2d::{self, Window};
use lethe_kernels::group_norm::GroupNorm;
use lethe_kernels::{
    attention as attend, combine, concat, geglu, layer_norm, upsample as resample,
};

/// w ∗ x + bias, see [`lethe_kernels::conv2d`]; `bias` is [out] or [batch, out], if there is one.
///
/// # Errors
/// When shapes do not fit.
pub fn convolve(
    tape: &Tape,
    x: &Value,
    w: &Value,
    bias: Option<&Value>,
    window: Window,
) -> Result<Value> {
    let y = conv2d::forward(x.tensor(), w.tensor(), bias.map(Value::tensor), window)?;
    let (x_slot, w_slot) = (x.slot(), w.slot());
    let bias = bias.map(|bias| (bias.slot(), bias.tensor().dims().to_vec()));
    let x_shape = x.tensor().dims().to_vec();
    let (kept_x, kept_w) = (x.kept_if(w.is_tracked()), w.kept_if(x.is_tracked()));
    let slots: Vec<Slot> = [x_slot, w_slot].into_iter().chain(bias.as_ref().map(|b| b.0)).collect();
    Ok(tape.record(y, &slots, move |dy, to| {
        let dy = dy.contiguous()?;
        if let Some((slot, shape)) = bias {
            to.add(slot, || conv2d::bias_gradient(&dy, &shape))?;
        }
        if let Some(x) = kept_x {
            to.add(w_slot, || conv2d::weight_gradient(&x, &dy, window))?;
        }
        if let Some(w) = kept_w {
            to.add(x_slot, || conv2d::input_gradient(&dy, &w, &x_shape, window))?;
        }
        Ok(())
    }))
}

/// x·wᵀ + bias over the last dimension: a 1x1 convolution whose pixels are x's rows.
///
/// Shapes: `x` [.., in], `w` [out, in], `bias` [out], if there is one.
///
/// # Errors
/// When shapes do not fit.
pub fn linear(tape: &Tape, x: &Value, w: &Value, bias: Option<&Value>) -> Result<Value> {
    let shape = x.tensor().dims().to_vec();
    let (depth, channels) = (shape[shape.len() - 1], w.tensor().dim(0)?);
    let rows = reshape(tape, x, &[1, 1, shape.iter().product::<usize>() / depth.max(1), depth])?;
    let w = reshape(tape, w, &[channels, depth, 1, 1])?;
    let y = convolve(tape, &rows, &w, bias, Window::same(1))?;
    reshape(tape, &y, &[&shape[..shape.len() - 1], &[channels]].concat())
}

/// See [`lethe_kernels::group_norm`]; `gamma` and `beta` are [channels] or [batch, channels].
///
/// # Errors
/// When shapes do not fit.
pub fn group_norm(
    tape: &Tape,
    x: &Value,
    gamma: &Value,
    beta: &Value,
    norm: GroupNorm,
) -> Result<Value> {
    let (y, kept) = norm.forward_kept(x.tensor(), gamma.tensor(), beta.tensor())?;
    let slots = [x.slot(), gamma.slot(), beta.slot()];
    let operands = [x, gamma, beta].map(|value| value.tensor().clone());
    Ok(tape.record(y, &slots, move |dy, to| {
        let [x, gamma, beta] = &operands;
        let gradients = norm.gradients_with(&kept, &dy.contiguous()?, x, gamma, beta)?;
        to.add(slots[0], || Ok(gradients.x))?;
        to.add(slots[1], || Ok(gradients.gamma))?;
        to.add(slots[2], || Ok(gradients.beta))
    }))
}

/// See [`lethe_kernels::layer_norm`].
///
/// # Errors
/// When shapes do not fit.
pub fn layer_norm(
    tape: &Tape,
    x: &Value,
    gamma: &Value,
    beta: &Value,
    epsilon: f64,
) -> Result<Value> {
    let y = layer_norm::forward(x.tensor(), gamma.tensor(), beta.tensor(), epsilon)?;
    let slots = [x.slot(), gamma.slot(), beta.slot()];
    let operands = [x, gamma, beta].map(|value| value.tensor().clone());
    Ok(tape.record(y, &slots, move |dy, to| {
        let [x, gamma, beta] = &operands;
        let gradients = layer_norm::gradients(&dy.contiguous()?, x, gamma, beta, epsilon)?;
        to.add(slots[0], || Ok(gradients.x))?;
        to.add(slots[1], || Ok(gradients.gamma))?;
        to.add(slots[2], || Ok(gradients.beta))
    }))
}

/// See [`lethe_kernels::attention`].
///
/// # Errors
/// When shapes do not fit.
pub fn attention(tape: &Tape, q: &Value, k: &Value, v: &Value, heads: usize) -> Result<Value> {
    let (o, kept) = attend::forward_kept(q.tensor(), k.tensor(), v.tensor(), heads)?;
    let slots = [q.slot(), k.slot(), v.slot()];
    let operands = [q, k, v].map(|value| value.tensor().clone());
    Ok(tape.record(o, &slots, move |gradient, to| {
        let [q, k, v] = &operands;
        let gradients = attend::gradients_with(&kept, &gradient.contiguous()?, q, k, v, heads)?;
        to.add(slots[0], || Ok(gradients.q))?;
        to.add(slots[1], || Ok(gradients.k))?;
        to.add(slots[2], || Ok(gradients.v))
    }))
}

/// a + b, of one shape.
///
/// # Errors
/// When the shapes differ.
pub fn add(tape: &Tape, a: &Value, b: &Value) -> Result<Value> {
    let slots = [a.slot(), b.slot()];
    Ok(tape.record(combine::sum(a.tensor(), b.tensor())?, &slots, move |gradient, to| {
        to.add(slots[0], || Ok(gradient.clone()))?;
        to.add(slots[1], || Ok(gradient))
    }))
}

/// `factor` · x.
///
/// # Errors
/// Those of candle.
pub fn scale(tape: &Tape, x: &Value, factor: f64) -> Result<Value> {
    if factor == 1. {
        return Ok(x.clone());
    }
    let slot = x.slot();
    Ok(tape.record((x.tensor() * factor)?, &[slot], move |gradient, to| {
        to.add(slot, || gradient * factor)
    }))
}

/// Each row of x [rows, ..] by its own factor.
///
/// # Errors
/// When there is no factor for each row.
pub fn scale_rows(tape: &Tape, x: &Value, factors: &[f64]) -> Result<Value> {
    let mut shape = vec![1; x.tensor().rank()];
    shape[0] = factors.len();
    let factors = Tensor::new(factors, x.tensor().device())?.to_dtype(x.tensor().dtype())?;
    let (slot, factors) = (x.slot(), factors.reshape(shape)?);
    let scaled = x.tensor().broadcast_mul(&factors)?;
    Ok(tape.record(scaled, &[slot], move |gradient, to| {
        to.add(slot, || gradient.broadcast_mul(&factors))
    }))
}

/// (1 + scale) · x + shift, of one shape.
///
/// # Errors
/// When the shapes differ.
pub fn modulate(tape: &Tape, x: &Value, scale: &Value, shift: &Value) -> Result<Value> {
    let slots = [x.slot(), scale.slot(), shift.slot()];
    let factor = (scale.tensor() + 1.)?;
    let y = ((x.tensor() * &factor)? + shift.tensor())?;
    let kept = x.kept_if(scale.is_tracked());
    Ok(tape.record(y, &slots, move |gradient, to| {
        to.add(slots[0], || &gradient * factor)?;
        if let Some(x) = kept {
            to.add(slots[1], || &gradient * x)?;
        }
        to.add(slots[2], || Ok(gradient))
    }))
}

/// rows + row: [batch, channels] + [channels].
///
/// # Errors
/// When the channels differ.
pub fn add_row(tape: &Tape, rows: &Value, row: &Value) -> Result<Value> {
    let slots = [rows.slot(), row.slot()];
    let sum = rows.tensor().broadcast_add(row.tensor())?;
    Ok(tape.record(sum, &slots, move |gradient, to| {
        to.add(slots[1], || gradient.sum(0))?;
        to.add(slots[0], || Ok(gradient))
    }))
}

/// x · mask, where the mask is data.
///
/// # Errors
/// When the shapes differ.
pub fn mask(tape: &Tape, x: &Value, mask: &Tensor) -> Result<Value> {
    let (slot, kept) = (x.slot(), mask.clone());
    Ok(tape.record((x.tensor() * mask)?, &[slot], move |gradient, to| {
        to.add(slot, || gradient * kept)
    }))
}

/// [.., n] and [.., m] → [.., n + m].
///
/// # Errors
/// When the other dimensions differ.
pub fn join(tape: &Tape, a: &Value, b: &Value) -> Result<Value> {
    let (slots, n) = ([a.slot(), b.slot()], a.tensor().dim(D::Minus1)?);
    Ok(tape.record(concat::forward(a.tensor(), b.tensor())?, &slots, move |gradient, to| {
        let (first, second) = concat::split(&gradient.contiguous()?, n)?;
        to.add(slots[0], || Ok(first))?;
        to.add(slots[1], || Ok(second))
    }))
}

/// a · gelu(b) of [.., a and b] → [.., n], see [`lethe_kernels::geglu`].
///
/// # Errors
/// When the channels are odd.
pub fn gate(tape: &Tape, x: &Value) -> Result<Value> {
    let (slot, y) = (x.slot(), geglu::forward(x.tensor())?);
    let kept = x.kept_if(x.is_tracked());
    Ok(tape.record(y, &[slot], move |dy, to| {
        let Some(x) = kept else { return Ok(()) };
        to.add(slot, || geglu::gradient(&dy.contiguous()?, &x))
    }))
}

/// Nearest-neighbour upsampling by two.
///
/// # Errors
/// When `x` is no image.
pub fn upsample(tape: &Tape, x: &Value) -> Result<Value> {
    let slot = x.slot();
    let y = resample::forward(x.tensor())?;
    Ok(tape
        .record(y, &[slot], move |dy, to| to.add(slot, || resample::gradient(&dy.contiguous()?))))
}

/// Means of 2x2 pixels.
///
/// # Errors
/// When height or width is odd.
pub fn average_pool(tape: &Tape, x: &Value) -> Result<Value> {
    tape.composed(&[x], |inputs| {
        let (batch, height, width, channels) = inputs[0].dims4()?;
        let blocks = inputs[0].reshape((batch, height / 2, 2, width / 2, 2, channels))?;
        blocks.mean(4)?.mean(2)
    })
}

/// The same numbers under another shape.
///
/// # Errors
/// When the counts differ.
pub fn reshape(tape: &Tape, x: &Value, shape: &[usize]) -> Result<Value> {
    let (slot, before) = (x.slot(), x.tensor().dims().to_vec());
    Ok(tape.record(x.tensor().reshape(shape)?, &[slot], move |gradient, to| {
        to.add(slot, || gradient.contiguous()?.reshape(before))
    }))
}
