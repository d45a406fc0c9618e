//! The steps of a matrix kernel with int8 activations, whose instructions multiply sixteen bytes: four columns of the
//! four rows of a group. Used by all targets but wasm without relaxed SIMD.

/// Defines the steps from the `I8x16`, `Quad` and `NibbleSums` of the module.
macro_rules! byte_steps {
    () => {
        /// An activation in the form that the kernels load.
        pub type Narrow = i8;
        /// Columns per step of a matrix kernel.
        pub const STEP_COLUMNS: usize = 4;
        /// The unpacked weights of one step of a row group.
        pub type StepWeights = [i8; 16];
        /// The activations of one step, broadcast to the four rows of a group.
        pub type StepActivations = Quad;
        /// Accumulators of a matrix kernel.
        pub type StepSums = NibbleSums;

        /// Unpacks eight columns of a row group into steps.
        #[inline(always)]
        pub fn unpack(bytes: I8x16, [low, high]: [&mut StepWeights; 8 / STEP_COLUMNS]) {
            bytes.low_nibbles().store(low);
            bytes.high_nibbles().store(high);
        }

        impl StepSums {
            /// Adds the products of one step.
            #[inline(always)]
            pub fn add_step(self, a: StepActivations, weights: &StepWeights) -> Self {
                self.add_products(a, I8x16::load(weights))
            }
        }
    };
}
