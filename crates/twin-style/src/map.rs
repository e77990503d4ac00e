//! A plane through many features: where texts lie near to each other that have them alike.

/// The rounds of power iteration: the direction hardly turns after a few dozen.
const ROUNDS: usize = 200;

/// The plane of the two directions in which rows differ most (principal components; Pearson, 1901).
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    centre: Vec<f64>,
    axes: [Vec<f64>; 2],
}

impl Plane {
    /// The plane of rows of features. `None` where there are fewer than four rows, or no features. Rows of unequal length
    /// count as far as the shortest goes.
    pub fn of(rows: &[&[f64]]) -> Option<Self> {
        let features = rows.iter().map(|row| row.len()).min().unwrap_or(0);
        if rows.len() < 4 || features == 0 {
            return None;
        }
        let centre: Vec<f64> =
            (0..features).map(|f| rows.iter().map(|row| row[f]).sum::<f64>() / rows.len() as f64).collect();
        let mut rest: Vec<Vec<f64>> =
            rows.iter().map(|row| row.iter().zip(&centre).map(|(value, centre)| value - centre).collect()).collect();
        let first = direction(&rest, features);
        for row in &mut rest {
            let along = dot(row, &first);
            row.iter_mut().zip(&first).for_each(|(value, axis)| *value -= along * axis);
        }
        let second = direction(&rest, features);
        Some(Self { centre, axes: [first, second] })
    }

    /// Where a row lies.
    pub fn place(&self, row: &[f64]) -> [f64; 2] {
        let centred: Vec<f64> = row.iter().zip(&self.centre).map(|(value, centre)| value - centre).collect();
        [0, 1].map(|axis| dot(&centred, &self.axes[axis]))
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The direction of the largest variance of centred rows, of length 1 and with its largest part positive, so that the same
/// rows are always drawn the same way round. All zeros where nothing varies.
fn direction(rows: &[Vec<f64>], features: usize) -> Vec<f64> {
    // Slightly uneven, so that it is hardly ever at right angles to what is looked for.
    let mut axis: Vec<f64> = (0..features).map(|f| 1.0 + f as f64 / features as f64).collect();
    for _ in 0..ROUNDS {
        let mut next = vec![0.0; features];
        for row in rows {
            let along = dot(row, &axis);
            next.iter_mut().zip(row).for_each(|(sum, value)| *sum += along * value);
        }
        let length = dot(&next, &next).sqrt();
        if length < 1e-12 {
            return vec![0.0; features];
        }
        axis = next.into_iter().map(|value| value / length).collect();
    }
    let largest = axis.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
    if largest < 0.0 { axis.into_iter().map(|value| -value).collect() } else { axis }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_directions_come_first() {
        // Wide along the first feature, less along the third, nothing along the second.
        let rows: Vec<Vec<f64>> =
            [[-3.0, 7.0, 0.0], [3.0, 7.0, 0.0], [0.0, 7.0, 1.0], [0.0, 7.0, -1.0]].map(|row| row.to_vec()).to_vec();
        let plane = Plane::of(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        let [x, y] = plane.place(&[2.0, 100.0, 0.5]);
        assert!((x - 2.0).abs() < 1e-9 && (y - 0.5).abs() < 1e-9, "{x} {y}");
    }

    #[test]
    fn what_does_not_vary_lies_in_one_place() {
        let row = [1.0, 2.0];
        let plane = Plane::of(&[&row, &row, &row, &row]).unwrap();
        assert_eq!(plane.place(&row), [0.0, 0.0]);
        assert_eq!(Plane::of(&[&row, &row, &row]), None);
        assert_eq!(Plane::of(&[&[], &[], &[], &[]]), None);
    }
}
