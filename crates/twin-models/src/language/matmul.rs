//! Products of f32 matrices over slices with strides, so that a transpose or a range of columns costs nothing.
//!
//! This is the one door to the `gemm` crate. Work is divided over rows of the result, which keeps each sum in one order
//! whatever the number of threads. It knows nothing of layers.

use gemm::Parallelism;
use rayon::prelude::*;

/// Below this many multiplications a second thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 20;
/// Rows that a thread should have before the result is divided by rows: packing the right-hand side must pay.
const ROWS_PER_TASK: usize = 48;
// Measured on Zen 4: dividing rows is faster for narrow results and where the right-hand side needs no transposition; else
// every thread would pack all of it, and gemm's own division, which shares the packing, is up to a fifth faster.
const NARROW: usize = 64;
const LONG_SUM: usize = 8192;

/// A matrix to read: element `(i, j)` is at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows × columns`, row after row.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows that are `row_stride` apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let matrix = Self { data, rows, columns, row_stride, column_stride: 1 };
        matrix.check();
        matrix
    }

    /// The transpose.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn skip_rows(self, first: usize, rows: usize) -> Self {
        Self { data: &self.data[first * self.row_stride..], rows, ..self }
    }

    fn check(&self) {
        assert!(last_index(self.rows, self.columns, self.row_stride, self.column_stride) <= self.data.len());
    }
}

/// A matrix to write: rows that are `row_stride` apart.
pub(crate) struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// `rows × columns`, row after row.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows that are `row_stride` apart.
    pub(crate) fn strided(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(columns <= row_stride && last_index(rows, columns, row_stride, 1) <= data.len());
        Self { data, rows, columns, row_stride }
    }
}

/// Operations a second of the best of a few large products.
pub(crate) fn measured_rate() -> f64 {
    const SIZE: usize = 1536;
    let (left, right) = (vec![0.5; SIZE * SIZE], vec![0.25; SIZE * SIZE]);
    let mut result = vec![0.0; SIZE * SIZE];
    let best = (0..5).map(|_| {
        let began = std::time::Instant::now();
        let into = MatrixMut::new(&mut result, SIZE, SIZE);
        matmul(into, Into::Replace, 1.0, Matrix::new(&left, SIZE, SIZE), Matrix::new(&right, SIZE, SIZE));
        began.elapsed().as_secs_f64()
    });
    2.0 * (SIZE as f64).powi(3) / best.fold(f64::INFINITY, f64::min)
}

/// Whether a product replaces what the result held or is added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    Replace,
    Add,
}

/// `into = scale · left · right` (or `+=`), on all threads of the current pool.
pub(crate) fn matmul(into: MatrixMut<'_>, mode: Into, scale: f32, left: Matrix<'_>, right: Matrix<'_>) {
    let threads = rayon::current_num_threads();
    let work = into.rows * into.columns * left.columns;
    if threads < 2 || work < PARALLEL_FROM {
        return product(into, mode, scale, left, right, Parallelism::None);
    }
    let transposed = right.row_stride == 1 && right.columns > 1;
    let packing_is_cheap = into.columns <= NARROW || (!transposed && left.columns <= LONG_SUM);
    if into.rows < threads * ROWS_PER_TASK || !packing_is_cheap {
        return product(into, mode, scale, left, right, Parallelism::Rayon(0));
    }
    let MatrixMut { data, rows, columns, row_stride } = into;
    let per_task = rows.div_ceil(threads);
    let data = &mut data[..last_index(rows, columns, row_stride, 1)];
    data.par_chunks_mut(per_task * row_stride).enumerate().for_each(|(task, chunk)| {
        let first = task * per_task;
        let rows = per_task.min(rows - first);
        let part = MatrixMut::strided(chunk, rows, columns, row_stride);
        product(part, mode, scale, left.skip_rows(first, rows), right, Parallelism::None);
    });
}

/// [`matmul`] on the calling thread alone, for work that is already divided.
pub(crate) fn matmul_serial(into: MatrixMut<'_>, mode: Into, scale: f32, left: Matrix<'_>, right: Matrix<'_>) {
    product(into, mode, scale, left, right, Parallelism::None);
}

fn product(into: MatrixMut<'_>, mode: Into, scale: f32, left: Matrix<'_>, right: Matrix<'_>, parallelism: Parallelism) {
    assert_eq!((left.rows, right.columns), (into.rows, into.columns), "the result has another shape");
    assert_eq!(left.columns, right.rows, "the operands do not fit");
    assert!(last_index(into.rows, into.columns, into.row_stride, 1) <= into.data.len());
    left.check();
    right.check();
    let stride = |value: usize| value as isize;
    #[expect(
        unsafe_code,
        reason = "gemm takes pointers; the assertions above keep every index it forms inside the slices"
    )]
    unsafe {
        gemm::gemm(
            into.rows,
            into.columns,
            left.columns,
            into.data.as_mut_ptr(),
            1,
            stride(into.row_stride),
            mode == Into::Add,
            left.data.as_ptr(),
            stride(left.column_stride),
            stride(left.row_stride),
            right.data.as_ptr(),
            stride(right.column_stride),
            stride(right.row_stride),
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// One past the largest index that a matrix touches.
fn last_index(rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + (columns - 1) * column_stride + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, salt: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    fn check(rows: usize, inner: usize, columns: usize) {
        let (left, right) = (numbers(rows * inner, 1), numbers(columns * inner, 2));
        let mut result = numbers(rows * columns, 3);
        let expected: Vec<f32> = (0..rows * columns)
            .map(|at| {
                let (i, j) = (at / columns, at % columns);
                result[at] + 0.5 * (0..inner).map(|k| left[i * inner + k] * right[j * inner + k]).sum::<f32>()
            })
            .collect();
        let (left, right) = (Matrix::new(&left, rows, inner), Matrix::new(&right, columns, inner));
        matmul(MatrixMut::new(&mut result, rows, columns), Into::Add, 0.5, left, right.t());
        for (got, want) in result.iter().zip(&expected) {
            assert!((got - want).abs() < 1e-3, "{rows}x{inner}x{columns}: {got} is not {want}");
        }
    }

    #[test]
    fn products_agree_with_the_definition_at_every_division_of_work() {
        check(1, 5, 3);
        check(7, 64, 200);
        check(40, 128, 300);
        check(257, 96, 65);
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn operands_that_do_not_fit_are_refused() {
        let data = [0.0; 6];
        let mut result = [0.0; 4];
        let (left, right) = (Matrix::new(&data, 2, 3), Matrix::new(&data[..4], 2, 2));
        matmul(MatrixMut::new(&mut result, 2, 2), Into::Replace, 1.0, left, right);
    }
}
