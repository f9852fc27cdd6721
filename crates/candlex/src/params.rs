//! Parameters under the names that checkpoints use, in one flat tensor.
//!
//! A network declares its parameters once and keeps their indices; the numbers live in a [`ParamStore`].
//! So the same network runs on raw weights or on their moving average, and an optimizer or an average
//! is one in-place operation over [`ParamStore::flat`], of which every parameter is a view.
//! Adapters are a store of their own [`ParamStore::over`] the store that they adapt, which stays as it is and is shared.

use crate::rng::Seed;
use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// How a parameter starts, when it is not loaded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All equal.
    Constant(f64),
    /// Uniform on ±1/√fan_in: `torch.nn.Linear` and `torch.nn.Conv2d`, weight and bias.
    FanIn(usize),
    /// Normal about 0: `torch.nn.Embedding` with deviation 1.
    Normal {
        /// Standard deviation.
        deviation: f64,
    },
}

/// A parameter's name, shape and start.
#[derive(Clone, Debug, PartialEq)]
pub struct Declaration {
    /// The name that checkpoints use, such as `down_blocks.0.resnets.0.conv1.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How it starts.
    pub init: Init,
}

/// The parameters of a network, in the order in which it declares them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Declarations(Vec<Declaration>);

impl Declarations {
    /// Adds a parameter and returns its index.
    pub fn declare(&mut self, name: impl Into<String>, shape: &[usize], init: Init) -> usize {
        self.0.push(Declaration { name: name.into(), shape: shape.to_vec(), init });
        self.0.len() - 1
    }

    /// A place to declare under `name`.
    pub fn at(&mut self, name: &str) -> Scope<'_> {
        Scope { declarations: self, prefix: name.to_string() }
    }

    /// All of them.
    pub fn as_slice(&self) -> &[Declaration] {
        &self.0
    }

    /// Numbers in all.
    pub fn n_elements(&self) -> usize {
        self.0.iter().map(|declaration| declaration.shape.iter().product::<usize>()).sum()
    }
}

/// A place in the tree of names.
#[derive(Debug)]
pub struct Scope<'a> {
    declarations: &'a mut Declarations,
    prefix: String,
}

impl Scope<'_> {
    /// The place `name` below this one.
    pub fn at(&mut self, name: impl std::fmt::Display) -> Scope<'_> {
        Scope { prefix: format!("{}.{name}", self.prefix), declarations: self.declarations }
    }

    /// The name of this place.
    pub fn path(&self) -> &str {
        &self.prefix
    }

    /// Declares `prefix.name`.
    pub fn declare(&mut self, name: &str, shape: &[usize], init: Init) -> usize {
        self.declarations.declare(format!("{}.{name}", self.prefix), shape, init)
    }
}

/// The numbers of a network.
#[derive(Debug)]
pub struct ParamStore {
    /// Frozen parameters whose indices come before all others.
    base: Option<Arc<ParamStore>>,
    names: Vec<String>,
    flat: Tensor,
    views: Vec<Tensor>,
    frozen: Vec<bool>,
}

impl ParamStore {
    /// Draws every parameter by its [`Init`]; a parameter's numbers depend on `seed` and its name alone.
    ///
    /// # Errors
    /// When two declarations share a name, or the device refuses the tensor.
    pub fn initialised(
        declarations: &Declarations,
        seed: Seed,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let declared = declarations.as_slice();
        let values = match dtype {
            DType::F64 => Values::Wide(drawn(declared, seed, |x| x)),
            _ => Values::Narrow(drawn(declared, seed, |x| x as f32)),
        };
        Self::from_values(declarations, values, dtype, device)
    }

    /// Takes over `values`: all parameters one after another, in the order of their declaration.
    ///
    /// # Errors
    /// As [`ParamStore::from_flat`].
    pub fn from_values(
        declarations: &Declarations,
        values: Values,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let n = values.len();
        let flat = match values {
            Values::Narrow(values) => Tensor::from_vec(values, n, &Device::Cpu)?,
            Values::Wide(values) => Tensor::from_vec(values, n, &Device::Cpu)?,
        };
        Self::from_flat(declarations, flat.to_dtype(dtype)?.to_device(device)?)
    }

    /// Takes over `flat` [n_elements]: all parameters one after another, in the order of their declaration.
    ///
    /// # Errors
    /// When the length does not fit, or two declarations share a name.
    pub fn from_flat(declarations: &Declarations, flat: Tensor) -> Result<Self> {
        if flat.dims() != [declarations.n_elements()] {
            bail!(
                "parameters: expected [{}] numbers, got {:?}",
                declarations.n_elements(),
                flat.dims()
            );
        }
        let mut names: Vec<&str> =
            declarations.as_slice().iter().map(|d| d.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("parameters: two are called `{}`", pair[0]);
        }
        let (mut views, mut offset) = (Vec::new(), 0);
        for Declaration { shape, .. } in declarations.as_slice() {
            let length = shape.iter().product();
            views.push(flat.narrow(0, offset, length)?.reshape(shape.as_slice())?);
            offset += length;
        }
        let names = declarations.as_slice().iter().map(|d| d.name.clone()).collect();
        Ok(Self { base: None, names, flat, frozen: vec![false; views.len()], views })
    }

    /// This store over a frozen `base`, whose parameters take the first indices; its own come behind them.
    #[must_use]
    pub fn over(self, base: Arc<ParamStore>) -> Self {
        Self { base: Some(base), ..self }
    }

    /// The frozen store below this one.
    pub fn base(&self) -> Option<&Arc<ParamStore>> {
        self.base.as_ref()
    }

    /// A copy with storage of its own, over the same base: the start of a moving average.
    ///
    /// # Errors
    /// When the device refuses the copy.
    pub fn duplicate(&self) -> Result<Self> {
        self.duplicate_on(self.flat.device())
    }

    /// A copy on `device` with storage of its own, over the same base, which stays where it is.
    ///
    /// # Errors
    /// When the device refuses the copy.
    pub fn duplicate_on(&self, device: &Device) -> Result<Self> {
        let is_here = device.same_device(self.flat.device());
        let flat = if is_here { self.flat.copy()? } else { self.flat.to_device(device)? };
        let views = views(&flat, &self.views)?;
        let (base, names, frozen) = (self.base.clone(), self.names.clone(), self.frozen.clone());
        Ok(Self { base, names, flat, views, frozen })
    }

    /// The same numbers in `dtype`, over a `base` of its own.
    ///
    /// # Errors
    /// When the device refuses the copy.
    pub fn rounded(&self, dtype: DType, base: Option<Arc<ParamStore>>) -> Result<Self> {
        let flat = self.flat.to_dtype(dtype)?;
        let views = views(&flat, &self.views)?;
        let (names, frozen) = (self.names.clone(), self.frozen.clone());
        Ok(Self { base, names, flat, views, frozen })
    }

    /// All of its own numbers, [n_elements]; in-place updates move every parameter.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Number of its own parameters.
    pub fn len(&self) -> usize {
        self.views.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// Indices of its own parameters: from 0, or behind those of the base.
    pub fn own(&self) -> Range<usize> {
        let first = self.base.as_ref().map_or(0, |base| base.own().end);
        first..first + self.len()
    }

    /// The `index`-th parameter, the base's included.
    pub fn tensor(&self, index: usize) -> &Tensor {
        match (&self.base, index.checked_sub(self.own().start)) {
            (Some(base), None) => base.tensor(index),
            (_, own) => &self.views[own.unwrap_or(index)],
        }
    }

    /// The `index`-th parameter's name, the base's included.
    pub fn name(&self, index: usize) -> &str {
        match (&self.base, index.checked_sub(self.own().start)) {
            (Some(base), None) => base.name(index),
            (_, own) => &self.names[own.unwrap_or(index)],
        }
    }

    /// Names and tensors of its own, in the order of their declaration.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.names.iter().map(String::as_str).zip(&self.views)
    }

    /// Whether training moves the `index`-th parameter.
    pub fn is_trainable(&self, index: usize) -> bool {
        index.checked_sub(self.own().start).is_some_and(|own| !self.frozen[own])
    }

    /// Freezes those of its own parameters whose name `is_frozen`, and frees the others.
    pub fn freeze(&mut self, is_frozen: impl Fn(&str) -> bool) {
        self.frozen = self.names.iter().map(|name| is_frozen(name)).collect();
    }

    /// Cuts a flat tensor, such as a moment of the optimizer, into named views.
    ///
    /// # Errors
    /// When its length is not the store's.
    pub fn named<'a>(&'a self, flat: &Tensor) -> Result<Vec<(&'a str, Tensor)>> {
        let (mut named, mut offset) = (Vec::new(), 0);
        for (name, view) in self.iter() {
            named.push((name, flat.narrow(0, offset, view.elem_count())?.reshape(view.dims())?));
            offset += view.elem_count();
        }
        Ok(named)
    }
}

/// Parts of `flat`, one after another, shaped as `like`.
fn views(flat: &Tensor, like: &[Tensor]) -> Result<Vec<Tensor>> {
    let mut offset = 0;
    let part = |view: &Tensor| {
        let start = offset;
        offset += view.elem_count();
        flat.narrow(0, start, view.elem_count())?.reshape(view.dims())
    };
    like.iter().map(part).collect()
}

/// Numbers on their way into a store, no wider than they will be there: a large network is held once.
#[derive(Debug)]
pub enum Values {
    /// For a store of 32 bits or fewer.
    Narrow(Vec<f32>),
    /// For a store of 64 bits.
    Wide(Vec<f64>),
}

impl Values {
    /// How many.
    fn len(&self) -> usize {
        match self {
            Self::Narrow(values) => values.len(),
            Self::Wide(values) => values.len(),
        }
    }
}

/// The numbers of all parameters one after another, as many parameters at once as there are processors.
fn drawn<T: Copy + Default + Send>(
    declared: &[Declaration],
    seed: Seed,
    cast: impl Fn(f64) -> T + Sync,
) -> Vec<T> {
    let count = |declaration: &Declaration| declaration.shape.iter().product::<usize>();
    let mut values = vec![T::default(); declared.iter().map(count).sum()];
    let (mut rest, mut parts) = (&mut values[..], Vec::with_capacity(declared.len()));
    for declaration in declared {
        let (own, others) = rest.split_at_mut(count(declaration));
        parts.push((declaration, own));
        rest = others;
    }
    parts.into_par_iter().for_each(|(declaration, own)| draw(declaration, seed, own, &cast));
    values
}

fn draw<T: Copy>(declaration: &Declaration, seed: Seed, values: &mut [T], cast: impl Fn(f64) -> T) {
    let mut draws = seed.stream(&format!("init {}", declaration.name)).at(0, 0);
    match declaration.init {
        Init::Constant(value) => values.fill(cast(value)),
        Init::FanIn(fan_in) => {
            let bound = 1. / (fan_in as f64).sqrt();
            values.iter_mut().for_each(|x| *x = cast(bound * (2. * draws.uniform() - 1.)));
        }
        Init::Normal { deviation } => {
            for two in values.chunks_mut(2) {
                let normal = draws.normal_pair().map(|x| cast(deviation * x));
                two.copy_from_slice(&normal[..two.len()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declarations() -> Declarations {
        let mut declarations = Declarations::default();
        let mut block = declarations.at("block");
        block.declare("weight", &[3, 4], Init::FanIn(4));
        block.at(1).declare("bias", &[3], Init::Constant(2.));
        declarations
    }

    #[test]
    fn names_follow_the_tree_and_numbers_the_name() {
        let store =
            ParamStore::initialised(&declarations(), Seed(1), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(
            store.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["block.weight", "block.1.bias"]
        );
        let weight = store.tensor(0).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(weight.iter().all(|w| w.abs() <= 0.5) && weight[0] != weight[1]);
        let mut alone = Declarations::default();
        alone.declare("block.weight", &[3, 4], Init::FanIn(4));
        let alone = ParamStore::initialised(&alone, Seed(1), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(alone.tensor(0).flatten_all().unwrap().to_vec1::<f32>().unwrap(), weight);
    }

    #[test]
    fn a_duplicate_has_numbers_of_its_own() {
        let store =
            ParamStore::initialised(&declarations(), Seed(1), DType::F32, &Device::Cpu).unwrap();
        let copy = store.duplicate().unwrap();
        store.flat().slice_set(&store.flat().zeros_like().unwrap(), 0, 0).unwrap();
        assert_eq!(store.tensor(1).to_vec1::<f32>().unwrap(), [0.; 3]);
        assert_eq!(copy.tensor(1).to_vec1::<f32>().unwrap(), [2.; 3]);
    }

    #[test]
    fn what_lies_over_a_base_comes_behind_it_and_moves_alone() {
        let store = |name: &str| {
            let mut declarations = Declarations::default();
            declarations.declare(name, &[2], Init::Constant(1.));
            ParamStore::initialised(&declarations, Seed(1), DType::F32, &Device::Cpu).unwrap()
        };
        let base = Arc::new(store("base"));
        let over = store("adapter").over(base.clone());
        assert_eq!(
            (over.own(), over.len(), over.name(0), over.name(1)),
            (1..2, 1, "base", "adapter")
        );
        assert!(!over.is_trainable(0) && over.is_trainable(1));
        over.flat().slice_set(&over.flat().zeros_like().unwrap(), 0, 0).unwrap();
        assert_eq!(over.tensor(0).to_vec1::<f32>().unwrap(), [1.; 2]);
        assert_eq!(over.duplicate().unwrap().tensor(1).to_vec1::<f32>().unwrap(), [0.; 2]);
    }

    #[test]
    fn a_name_used_twice_is_refused() {
        let mut twice = declarations();
        twice.declare("block.weight", &[1], Init::Constant(0.));
        let error = ParamStore::initialised(&twice, Seed(1), DType::F32, &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("block.weight"));
    }
}
