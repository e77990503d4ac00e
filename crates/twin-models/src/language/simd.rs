//! Running plain loops with the widest vector instructions that the machine has, chosen at run time.
//!
//! A function written inside [`kernel!`] is compiled once per instruction set (AVX-512, AVX2, the target's baseline) and the
//! best one is called. Most loops stay ordinary Rust, which the compiler vectorises; a kernel that names its instruction
//! set, as in `fn name[simd](…)`, may also use `pulp`'s vectors.

/// Runs an operation with the best instruction set.
#[inline(always)]
pub(crate) fn dispatch<Op: pulp::WithSimd>(operation: Op) -> Op::Output {
    // pulp's own choice knows AVX2 only with a feature that would recompile candle, so the choice is made here.
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = pulp::x86::V4::try_new() {
            return pulp::Simd::vectorize(simd, operation);
        }
        if let Some(simd) = pulp::x86::V3::try_new() {
            return pulp::Simd::vectorize(simd, operation);
        }
    }
    pulp::Arch::new().dispatch(operation)
}

/// Defines functions whose bodies are compiled for several instruction sets. All references share the lifetime `'a`.
macro_rules! kernel {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident$([$simd:ident])?($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[allow(unused_parens, clippy::too_many_arguments)]
        $vis fn $name<'a>($($arg: $ty),*) $(-> $ret)? {
            struct Operation<'a> { $($arg: $ty,)* life: std::marker::PhantomData<&'a ()> }
            impl<'a> pulp::WithSimd for Operation<'a> {
                type Output = ($($ret)?);
                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _set: S) -> Self::Output {
                    $(let $simd = _set;)?
                    let Self { $($arg,)* life: _ } = self;
                    $body
                }
            }
            crate::language::simd::dispatch(Operation { $($arg,)* life: std::marker::PhantomData })
        }
    )*};
}
pub(crate) use kernel;

/// How many partial sums a vectorised sum keeps.
pub(crate) const LANES: usize = 16;

/// The sum of the lanes, in a fixed order.
#[inline(always)]
pub(crate) fn sum_lanes(lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    let mut lanes = lanes;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `Σ a·b`.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sum_lanes(lanes) + rest
}

/// `Σ a·b` with vectors of the instruction set at hand.
#[inline(always)]
pub(crate) fn dot_with<S: pulp::Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let ((a_fours, a), (b_fours, b)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [simd.splat_f32s(0.0); 4];
    for (a, b) in a_fours.iter().zip(b_fours) {
        for i in 0..4 {
            sums[i] = simd.mul_add_e_f32s(a[i], b[i], sums[i]);
        }
    }
    for (a, b) in a.iter().zip(b) {
        sums[0] = simd.mul_add_e_f32s(*a, *b, sums[0]);
    }
    if !a_rest.is_empty() {
        let (a, b) = (simd.partial_load_f32s(a_rest), simd.partial_load_f32s(b_rest));
        sums[1] = simd.mul_add_e_f32s(a, b, sums[1]);
    }
    let pairs = [simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3])];
    simd.reduce_sum_f32s(simd.add_f32s(pairs[0], pairs[1]))
}

/// `Σ a·b·c`.
#[inline(always)]
pub(crate) fn dot_of_three(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let (c_blocks, c_rest) = c.as_chunks::<LANES>();
    for ((a, b), c) in a_blocks.iter().zip(b_blocks).zip(c_blocks) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i] * c[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).zip(c_rest).map(|((a, b), c)| a * b * c).sum();
    sum_lanes(lanes) + rest
}

/// `eˣ` to within two units in the last place, without a branch (Cephes `expf`: range reduction by ln 2 in two parts, then
/// a polynomial of degree five). Arguments below -87 give about 1e-38 rather than 0.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5·2²³ leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    let rest = x - power * LN_2_HIGH - power * LN_2_LOW;
    let mut series = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        series = series * rest + coefficient;
    }
    let mantissa = series * rest * rest + rest + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    mantissa * f32::from_bits(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_a_few_units_in_the_last_place() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 3e-7, "exp({x}) is off by {error}");
        }
        assert!(exp(-1e30) < 1e-37);
    }

    #[test]
    fn dot_takes_the_rest() {
        let a: Vec<f32> = (0..37).map(|i| i as f32).collect();
        let exact = (0..37).map(|i| (i * i) as f32).sum::<f32>();
        assert_eq!(dot(&a, &a), exact);
        for length in 0..37 {
            let exact = (0..length).map(|i| (i * i) as f32).sum::<f32>();
            assert_eq!(dot_of(&a[..length], &a[..length]), exact);
        }
    }

    kernel! {
        fn dot_of[simd](a: &'a [f32], b: &'a [f32]) -> f32 {
            dot_with(simd, a, b)
        }
    }
}
