// Batched matrix product Cᵢⱼ = Σₖ Aᵢₖ·Bⱼₖ. The kernel defines `sizes` (the counts of i, j and k), `a_element`,
// `b_element` and `store`, whose first argument is the index in the batch, the workgroup's z. A workgroup computes a
// square of PRODUCT_SIDE by PRODUCT_SIDE, a thread OWN by OWN of it.
const SIDE = 8u; // of the square of threads: SIDE² = THREADS
const OWN = PRODUCT_SIDE / SIDE; // 4, the lanes of a vector
// Vectors of four k per step; rows are padded by one vector, so that they start in different memory banks.
const STEP = 8u;
const STRIDE = STEP + 1u;
var<workgroup> a_tile: array<vec4<f32>, PRODUCT_SIDE * STRIDE>;
var<workgroup> b_tile: array<vec4<f32>, PRODUCT_SIDE * STRIDE>;

fn a_four(z: u32, i: u32, k: u32, n: vec3<u32>) -> vec4<f32> {
    var four = vec4<f32>();
    // unroll
    for (var at = 0u; at < 4u; at++) {
        if i < n.x && k + at < n.z {
            four[at] = a_element(z, i, k + at);
        }
    }
    return four;
}

fn b_four(z: u32, j: u32, k: u32, n: vec3<u32>) -> vec4<f32> {
    var four = vec4<f32>();
    // unroll
    for (var at = 0u; at < 4u; at++) {
        if j < n.y && k + at < n.z {
            four[at] = b_element(z, j, k + at);
        }
    }
    return four;
}

// Computes the square of workgroup `id`. Call once per kernel, from all threads.
fn tiled_product(id: vec3<u32>, thread: u32) {
    let n = sizes();
    let first_i = id.x * PRODUCT_SIDE;
    let first_j = id.y * PRODUCT_SIDE;
    let own_i = thread / SIDE;
    let own_j = thread % SIDE;
    var sums: array<vec4<f32>, OWN>; // one j per lane
    for (var start = 0u; start < n.z; start += 4u * STEP) {
        for (var at = thread; at < PRODUCT_SIDE * STEP; at += THREADS) {
            let row = at % PRODUCT_SIDE;
            let four = at / PRODUCT_SIDE;
            a_tile[row * STRIDE + four] = a_four(id.z, first_i + row, start + 4u * four, n);
            b_tile[row * STRIDE + four] = b_four(id.z, first_j + row, start + 4u * four, n);
        }
        workgroupBarrier();
        for (var k = 0u; k < STEP; k++) {
            var b: array<vec4<f32>, OWN>;
            // unroll
            for (var j = 0u; j < OWN; j++) {
                b[j] = b_tile[(own_j + SIDE * j) * STRIDE + k];
            }
            // unroll
            for (var i = 0u; i < OWN; i++) {
                let a = a_tile[(own_i + SIDE * i) * STRIDE + k];
                sums[i] += vec4<f32>(dot(a, b[0]), dot(a, b[1]), dot(a, b[2]), dot(a, b[3]));
            }
        }
        workgroupBarrier();
    }
    // unroll
    for (var i = 0u; i < OWN; i++) {
        // unroll
        for (var j = 0u; j < OWN; j++) {
            let at_i = first_i + own_i + SIDE * i;
            let at_j = first_j + own_j + SIDE * j;
            if at_i < n.x && at_j < n.y {
                store(id.z, at_i, at_j, sums[i][j]);
            }
        }
    }
}
