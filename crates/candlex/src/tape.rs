//! Reverse-mode differentiation whose memory plan is ownership.
//!
//! Each operation records a closure that owns what its backward pass needs and nothing else.
//! [`Tape::backward`] consumes the closures from last to first, so that every activation is freed as soon as it was used.
//! Operations skip the gradients that nobody asked for: frozen weights and plain data cost nothing.
//! [`Tape::recompute`] trades a second forward pass for the memory of a block.
//!
//! Unlike candle's own `backward`, gradients start from the first contribution instead of from zeros,
//! carry no graph of their own, and the forward graph does not outlive the pass.
//! What candle can differentiate by itself enters through [`Tape::composed`].

use crate::params::ParamStore;
use candle_core::{Result, Tensor, Var, bail};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Who receives a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    /// A parameter of the store, by index.
    Parameter(usize),
    /// A recorded value of this tape, by index.
    Recorded(usize),
}

/// Where a value's gradient goes; without the value itself, so that keeping it keeps no memory.
#[derive(Clone, Copy, Debug)]
pub struct Slot(Option<Node>);

impl Slot {
    /// Whether a gradient is wanted here.
    pub fn is_tracked(self) -> bool {
        self.0.is_some()
    }
}

/// A tensor on the tape.
#[derive(Clone, Debug)]
pub struct Value {
    tensor: Tensor,
    slot: Slot,
}

impl Value {
    /// The tensor itself.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Where its gradient goes.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Whether a gradient is wanted for it.
    pub fn is_tracked(&self) -> bool {
        self.slot.is_tracked()
    }

    /// The tensor, kept only where `wanted`: what a backward closure captures.
    pub fn kept_if(&self, wanted: bool) -> Option<Tensor> {
        wanted.then(|| self.tensor.clone())
    }

    /// A value that receives no gradient.
    pub fn constant(tensor: Tensor) -> Self {
        Self { tensor, slot: Slot(None) }
    }
}

/// Gathers gradients on the way back.
#[derive(Debug, Default)]
pub struct Collector(BTreeMap<Node, Tensor>);

impl Collector {
    /// Adds `gradient()` to what `slot` has received; it is not computed where no gradient is wanted.
    ///
    /// # Errors
    /// Those of `gradient`, and a shape that differs from an earlier contribution's.
    pub fn add(&mut self, slot: Slot, gradient: impl FnOnce() -> Result<Tensor>) -> Result<()> {
        let Slot(Some(node)) = slot else { return Ok(()) };
        let gradient = gradient()?;
        let total = match self.0.remove(&node) {
            None => gradient,
            Some(so_far) => lethe_kernels::combine::sum(&so_far, &gradient)?,
        };
        self.0.insert(node, total);
        Ok(())
    }

    fn take(&mut self, node: Node) -> Option<Tensor> {
        self.0.remove(&node)
    }
}

type Backward<'a> = Box<dyn FnOnce(Tensor, &mut Collector) -> Result<()> + 'a>;

struct Step<'a> {
    output: Node,
    backward: Backward<'a>,
}

/// The record of one forward pass over the parameters of one store.
pub struct Tape<'a> {
    store: &'a ParamStore,
    /// `None` while nothing is recorded.
    steps: Option<RefCell<Vec<Step<'a>>>>,
    leaves: RefCell<usize>,
    /// Whether parameters want gradients.
    learns: bool,
}

impl<'a> Tape<'a> {
    /// A tape that records, for training.
    pub fn recording(store: &'a ParamStore) -> Self {
        Self { store, steps: Some(RefCell::default()), leaves: RefCell::new(0), learns: true }
    }

    /// A tape that records for its leaves alone: derivatives in the data, at no cost for those in the parameters.
    pub fn of_inputs(store: &'a ParamStore) -> Self {
        Self { learns: false, ..Self::recording(store) }
    }

    /// A tape that records nothing, for sampling and measuring.
    pub fn inference(store: &'a ParamStore) -> Self {
        Self { store, steps: None, leaves: RefCell::new(0), learns: false }
    }

    /// Whether operations are recorded.
    pub fn is_recording(&self) -> bool {
        self.steps.is_some()
    }

    /// The store whose parameters this tape hands out.
    pub fn store(&self) -> &'a ParamStore {
        self.store
    }

    /// The `index`-th parameter; tracked while recording for training, unless it is frozen.
    pub fn parameter(&self, index: usize) -> Value {
        let wanted = self.learns && self.store.is_trainable(index);
        Value {
            tensor: self.store.tensor(index).clone(),
            slot: Slot(wanted.then_some(Node::Parameter(index))),
        }
    }

    /// A value of its own that wants a gradient.
    pub fn leaf(&self, tensor: Tensor) -> Value {
        let node = self.is_recording().then(|| self.fresh());
        Value { tensor, slot: Slot(node) }
    }

    fn fresh(&self) -> Node {
        let index = self.leaves.replace_with(|count| *count + 1);
        Node::Recorded(index)
    }

    /// Puts `output` on the tape; `backward` receives its gradient and adds to its inputs' slots.
    ///
    /// Nothing is kept where no input wants a gradient.
    pub fn record(
        &self,
        output: Tensor,
        inputs: &[Slot],
        backward: impl FnOnce(Tensor, &mut Collector) -> Result<()> + 'a,
    ) -> Value {
        let Some(steps) = &self.steps else { return Value::constant(output) };
        if !inputs.iter().any(|slot| slot.is_tracked()) {
            return Value::constant(output);
        }
        let node = self.fresh();
        steps.borrow_mut().push(Step { output: node, backward: Box::new(backward) });
        Value { tensor: output, slot: Slot(Some(node)) }
    }

    /// `f` under candle's own differentiation, as one step of this tape.
    ///
    /// # Errors
    /// Those of `f`, now or in the backward pass; an input to which candle finds no gradient is left without one.
    pub fn composed(
        &self,
        inputs: &[&Value],
        f: impl Fn(&[Tensor]) -> Result<Tensor>,
    ) -> Result<Value> {
        let slots: Vec<Slot> = inputs.iter().map(|input| input.slot()).collect();
        if !self.is_recording() || !slots.iter().any(|slot| slot.is_tracked()) {
            let tensors: Vec<Tensor> = inputs.iter().map(|input| input.tensor().detach()).collect();
            return Ok(Value::constant(f(&tensors)?.detach()));
        }
        let variables: Vec<Var> = inputs
            .iter()
            .map(|input| Var::from_tensor(&input.tensor().detach()))
            .collect::<Result<_>>()?;
        let tensors: Vec<Tensor> =
            variables.iter().map(|variable| variable.as_tensor().clone()).collect();
        let graph = f(&tensors)?;
        let wanted = slots.clone();
        Ok(self.record(graph.detach(), &slots, move |gradient, to| {
            let gradients = (&graph * gradient)?.sum_all()?.backward()?;
            for (variable, slot) in variables.iter().zip(wanted) {
                if let Some(gradient) = gradients.get(variable) {
                    to.add(slot, || gradient.detach().contiguous())?;
                }
            }
            Ok(())
        }))
    }

    /// `f` without keeping its activations: it runs again, recorded, when its gradient arrives.
    ///
    /// `f` must give the same result both times: randomness enters as tensors.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn recompute<F>(&self, inputs: &[&Value], f: F) -> Result<Value>
    where
        F: Fn(&Tape<'a>, &[Value]) -> Result<Value> + 'a,
    {
        let (store, learns) = (self.store, self.learns);
        let quiet = Tape::inference(store);
        let constants: Vec<Value> =
            inputs.iter().map(|input| Value::constant(input.tensor.clone())).collect();
        let output = f(&quiet, &constants)?.tensor;
        if !self.is_recording() {
            return Ok(Value::constant(output));
        }
        let outer: Vec<Value> = inputs.iter().map(|&input| input.clone()).collect();
        let node = Slot(Some(self.fresh()));
        // Parameters inside f want gradients even where no input does, so the step is kept in any case.
        Ok(self.record(output, &[node], move |gradient, to| {
            let inner = Tape { learns, ..Tape::recording(store) };
            let leaves: Vec<Value> =
                outer.iter().map(|input| inner.leaf(input.tensor.clone())).collect();
            let root = f(&inner, &leaves)?;
            let mut gradients = inner.backward(&root, gradient)?;
            for (leaf, outer) in leaves.iter().zip(&outer) {
                if let Some(gradient) = gradients.take_value(leaf) {
                    to.add(outer.slot, || Ok(gradient))?;
                }
            }
            for (index, gradient) in gradients.into_parameters() {
                to.add(Slot(Some(Node::Parameter(index))), || Ok(gradient))?;
            }
            Ok(())
        }))
    }

    /// Runs the record backwards from `root`, whose own gradient is `gradient`.
    ///
    /// # Errors
    /// When nothing leads from `root` to a parameter or leaf, and those of the operations' backward passes.
    pub fn backward(self, root: &Value, gradient: Tensor) -> Result<Gradients> {
        let (Some(steps), true) = (self.steps, root.is_tracked()) else {
            bail!("backward: nothing was recorded on the way to this value");
        };
        if gradient.dims() != root.tensor.dims() {
            bail!(
                "backward: the value is {:?}, its gradient {:?}",
                root.tensor.dims(),
                gradient.dims()
            );
        }
        let mut collector = Collector::default();
        collector.add(root.slot, || Ok(gradient))?;
        let mut steps = steps.into_inner();
        while let Some(step) = steps.pop() {
            if let Some(gradient) = collector.take(step.output) {
                (step.backward)(gradient, &mut collector)?;
            }
        }
        Ok(Gradients(collector))
    }
}

/// What a backward pass leaves: gradients of parameters and leaves.
#[derive(Debug)]
pub struct Gradients(Collector);

impl Gradients {
    /// The gradient of the `index`-th parameter.
    pub fn parameter(&self, index: usize) -> Option<&Tensor> {
        self.0.0.get(&Node::Parameter(index))
    }

    /// The gradient of a leaf.
    pub fn value(&self, leaf: &Value) -> Option<&Tensor> {
        leaf.slot.0.and_then(|node| self.0.0.get(&node))
    }

    fn take_value(&mut self, leaf: &Value) -> Option<Tensor> {
        leaf.slot.0.and_then(|node| self.0.take(node))
    }

    /// Gradients by parameter index, in order.
    pub fn into_parameters(self) -> impl Iterator<Item = (usize, Tensor)> {
        self.0.0.into_iter().filter_map(|(node, gradient)| match node {
            Node::Parameter(index) => Some((index, gradient)),
            Node::Recorded(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Declarations, Init};
    use crate::rng::Seed;
    use candle_core::{DType, Device};

    fn store() -> ParamStore {
        let mut declarations = Declarations::default();
        declarations.declare("a", &[2, 2], Init::Normal { deviation: 1. });
        declarations.declare("b", &[2, 2], Init::Normal { deviation: 1. });
        ParamStore::initialised(&declarations, Seed(1), DType::F64, &Device::Cpu).unwrap()
    }

    fn matmul<'a>(tape: &Tape<'a>, x: &Value, y: &Value) -> Value {
        let (kept_x, kept_y) = (x.kept_if(y.is_tracked()), y.kept_if(x.is_tracked()));
        let (slot_x, slot_y) = (x.slot(), y.slot());
        let product = x.tensor().matmul(y.tensor()).unwrap();
        tape.record(product, &[slot_x, slot_y], move |g, to| {
            if let Some(y) = kept_y {
                to.add(slot_x, || g.matmul(&y.t()?))?;
            }
            if let Some(x) = kept_x {
                to.add(slot_y, || x.t()?.matmul(&g))?;
            }
            Ok(())
        })
    }

    fn ones() -> Tensor {
        Tensor::ones((2, 2), DType::F64, &Device::Cpu).unwrap()
    }

    /// Σ a·a·b, whose gradient in a has two contributions.
    fn cube<'a>(tape: &Tape<'a>) -> Value {
        let (a, b) = (tape.parameter(0), tape.parameter(1));
        matmul(tape, &matmul(tape, &a, &a), &b)
    }

    #[test]
    fn contributions_add_and_equal_candle() {
        let store = store();
        let tape = Tape::recording(&store);
        let root = cube(&tape);
        let gradients = tape.backward(&root, ones()).unwrap();
        let vars: Vec<Var> = (0..2).map(|i| Var::from_tensor(store.tensor(i)).unwrap()).collect();
        let product = vars[0].matmul(&vars[0]).unwrap().matmul(&vars[1]).unwrap();
        let expected = product.sum_all().unwrap().backward().unwrap();
        for (index, var) in vars.iter().enumerate() {
            let difference =
                (gradients.parameter(index).unwrap() - expected.get(var).unwrap()).unwrap();
            assert!(
                difference.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap() <= 1e-12
            );
        }
    }

    fn flat(gradients: Gradients) -> Vec<Vec<f64>> {
        gradients
            .into_parameters()
            .map(|(_, g)| g.flatten_all().unwrap().to_vec1().unwrap())
            .collect()
    }

    #[test]
    fn recomputing_changes_no_bit() {
        let store = store();
        let plain = Tape::recording(&store);
        let x = plain.leaf(ones());
        let root = matmul(&plain, &x, &cube(&plain));
        let expected = plain.backward(&root, ones()).unwrap();
        let tape = Tape::recording(&store);
        let y = tape.leaf(ones());
        let root = tape
            .recompute(&[&y], |tape, inputs| Ok(matmul(tape, &inputs[0], &cube(tape))))
            .unwrap();
        let gradients = tape.backward(&root, ones()).unwrap();
        let of =
            |gradients: &Gradients, leaf| gradients.value(leaf).unwrap().to_vec2::<f64>().unwrap();
        assert_eq!(of(&gradients, &y), of(&expected, &x));
        assert_eq!(flat(gradients), flat(expected));
    }

    #[test]
    fn composed_equals_recorded() {
        let store = store();
        let plain = Tape::recording(&store);
        let root = cube(&plain);
        let expected = flat(plain.backward(&root, ones()).unwrap());
        let tape = Tape::recording(&store);
        let (a, b) = (tape.parameter(0), tape.parameter(1));
        let root = tape.composed(&[&a, &b], |t| t[0].matmul(&t[0])?.matmul(&t[1])).unwrap();
        let found = flat(tape.backward(&root, ones()).unwrap());
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() <= 1e-12);
        }
    }

    #[test]
    fn frozen_parameters_and_constants_receive_nothing() {
        let mut store = store();
        store.freeze(|name| name == "b");
        let tape = Tape::recording(&store);
        let root = cube(&tape);
        let gradients = tape.backward(&root, ones()).unwrap();
        assert!(gradients.parameter(0).is_some() && gradients.parameter(1).is_none());
        let tape = Tape::recording(&store);
        let constant = Value::constant(ones());
        let root = matmul(&tape, &constant, &constant);
        assert!(
            tape.backward(&root, ones()).unwrap_err().to_string().contains("nothing was recorded")
        );
    }

    #[test]
    fn a_tape_of_inputs_learns_nothing() {
        let store = store();
        let tape = Tape::of_inputs(&store);
        let x = tape.leaf(ones());
        let root = matmul(&tape, &x, &tape.parameter(0));
        let gradients = tape.backward(&root, ones()).unwrap();
        let expected = ones().matmul(&store.tensor(0).t().unwrap()).unwrap();
        assert_eq!(
            gradients.value(&x).unwrap().to_vec2::<f64>().unwrap(),
            expected.to_vec2::<f64>().unwrap()
        );
        assert!(gradients.parameter(0).is_none());
    }

    #[test]
    fn activations_are_freed_on_the_way_back() {
        let store = store();
        let tape = Tape::recording(&store);
        let alive = std::rc::Rc::new(());
        let (slot, early) = (tape.parameter(0).slot(), alive.clone());
        let first = tape.record(ones(), &[slot], move |g, to| {
            drop(early);
            to.add(slot, || Ok(g))
        });
        let (between, late, watch) = (first.slot(), alive.clone(), alive.clone());
        let second = tape.record(ones(), &[between], move |g, to| {
            drop(late);
            // The later step's hold is gone while the earlier one's is still there.
            assert_eq!(std::rc::Rc::strong_count(&watch), 3);
            to.add(between, || Ok(g))
        });
        drop(first);
        tape.backward(&second, ones()).unwrap();
        assert_eq!(std::rc::Rc::strong_count(&alive), 1);
    }
}
