//! Chance with a seed: the same one tries the same faults again.

/// SplitMix64.
pub struct Chance(u64);

impl Chance {
    /// A stream of its own for everything that bears another name.
    pub fn new(seed: u64, name: &str) -> Self {
        let digest = blake3::hash(format!("{seed} {name}").as_bytes());
        Self(u64::from_le_bytes(digest.as_bytes()[..8].try_into().unwrap()))
    }

    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.word() % n as u64) as usize
    }

    /// In [0, 1).
    pub fn share(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// What happens to the bytes of a file.
#[derive(Clone, Copy, Debug)]
pub enum Damage {
    /// One bit is another.
    Bit(usize, u8),
    /// One byte is another.
    Byte(usize, u8),
    /// The file ends there.
    End(usize),
    /// So many bytes from there on are zeros, as a power failure leaves them.
    Zeros(usize, usize),
}

impl Damage {
    /// A random one that changes a file of these bytes.
    pub fn any(chance: &mut Chance, bytes: &[u8]) -> Self {
        loop {
            let at = chance.below(bytes.len().max(1));
            let damage = match chance.below(8) {
                0..3 => Self::Bit(at, 1 << chance.below(8)),
                3 => Self::Byte(at, chance.word() as u8),
                4..7 => Self::End(at),
                _ => Self::Zeros(at, 1 + chance.below(512)),
            };
            if damage.done_to(bytes) != bytes {
                return damage;
            }
        }
    }

    pub fn done_to(self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        match self {
            Self::Bit(at, bit) => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit),
            Self::Byte(at, to) => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = to),
            Self::End(at) => bytes.truncate(at),
            Self::Zeros(at, n) => bytes.iter_mut().skip(at).take(n).for_each(|byte| *byte = 0),
        }
        bytes
    }
}
