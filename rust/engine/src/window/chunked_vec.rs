//! Growable array of rows that grows by allocating one more chunk instead of copying everything.

const CHUNK_BITS: u32 = 10;
const CHUNK: usize = 1 << CHUNK_BITS;

/// Rows of equal width, in chunks of 1,024 rows. Only the first chunk grows by reallocation; other elements never move.
#[derive(Debug)]
pub(crate) struct ChunkedVec<T> {
    chunks: Vec<Vec<T>>,
    width: usize,
}

impl<T: Default> ChunkedVec<T> {
    pub(crate) fn new(width: usize) -> Self {
        Self { chunks: Vec::new(), width }
    }

    #[inline]
    pub(crate) fn get(&self, row: u32) -> Option<&[T]> {
        let from = row as usize % CHUNK * self.width;
        self.chunks.get((row >> CHUNK_BITS) as usize)?.get(from..from + self.width)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, row: u32) -> Option<&mut [T]> {
        let from = row as usize % CHUNK * self.width;
        self.chunks.get_mut((row >> CHUNK_BITS) as usize)?.get_mut(from..from + self.width)
    }

    /// Creates all rows up to `row`.
    pub(crate) fn reach(&mut self, row: u32) {
        let (chunk, rows) = ((row >> CHUNK_BITS) as usize, row as usize % CHUNK + 1);
        while self.chunks.len() <= chunk {
            let room = if self.chunks.is_empty() { 0 } else { CHUNK * self.width };
            if let Some(last) = self.chunks.last_mut() {
                last.resize_with(CHUNK * self.width, T::default);
            }
            self.chunks.push(Vec::with_capacity(room));
        }
        let elements = &mut self.chunks[chunk];
        if elements.len() < rows * self.width {
            elements.resize_with(rows * self.width, T::default);
        }
    }

    /// Bytes per row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.width * size_of::<T>()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<T>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_continue_across_chunks() {
        let mut rows: ChunkedVec<u32> = ChunkedVec::new(3);
        for n in 0..3000 {
            rows.reach(n);
            rows.get_mut(n).unwrap().copy_from_slice(&[n, n + 1, n + 2]);
        }
        assert!((0..3000).all(|n| rows.get(n) == Some(&[n, n + 1, n + 2])));
        assert_eq!(rows.get(3000), None);
        rows.reach(10);
        assert_eq!(rows.get(2999).map(<[_]>::len), Some(3), "nothing is lost");
        rows.reach(9000);
        assert_eq!(rows.get(9000), Some(&[0; 3][..]));
        assert_eq!(rows.get(5000), Some(&[0; 3][..]), "rows in between are created as well");
        assert!(rows.heap_bytes() <= 10 * CHUNK * 3 * 4);
    }
}
