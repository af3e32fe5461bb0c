//! A growing list that never moves what it holds: growth costs one more chunk, not a copy of everything.

const CHUNK_BITS: u32 = 13;
const CHUNK: usize = 1 << CHUNK_BITS;

/// Elements by number, in chunks of 8,192. Only the first chunk grows by moving.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.chunks.get((at >> CHUNK_BITS) as usize)?.get(at as usize % CHUNK)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.chunks.get_mut((at >> CHUNK_BITS) as usize)?.get_mut(at as usize % CHUNK)
    }

    pub(crate) fn push(&mut self, element: T) {
        if self.len() == self.chunks.len() * CHUNK {
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        if let Some(last) = self.chunks.last_mut() {
            last.push(element);
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<T>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_run_on_from_chunk_to_chunk() {
        let mut slab = Slab::default();
        for n in 0..20_000_u32 {
            assert_eq!(slab.len(), n as usize);
            slab.push(n);
        }
        assert!((0..20_000).all(|n| slab.get(n) == Some(&n)));
        assert_eq!(slab.get(20_000), None);
        *slab.get_mut(9_000).unwrap() = 7;
        assert_eq!(slab.get(9_000), Some(&7));
        assert!(slab.heap_bytes() <= 3 * CHUNK * 4);
    }
}
