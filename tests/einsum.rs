//! Einstein's summation: against a sum in f64 over all names, gradients, NaN outside a diagonal, errors.
#![allow(clippy::unwrap_used)] // also in helpers, which clippy does not take for tests

mod common;

use common::*;
use gristmill::Tensor;

/// The definition: for each index of the result, the sum over all other names of the product of the operands.
fn reference(equation: &str, operands: &[Array]) -> Array {
    let (inputs, output) = equation.split_once("->").unwrap();
    let inputs: Vec<Vec<char>> = inputs.split(',').map(|names| names.chars().collect()).collect();
    let mut names: Vec<char> = output.chars().collect();
    let kept = names.len();
    let mut lengths = std::collections::BTreeMap::new();
    for (own, operand) in inputs.iter().zip(operands) {
        for (&name, &length) in own.iter().zip(&operand.shape) {
            lengths.insert(name, length);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let all: Vec<usize> = names.iter().map(|name| lengths[name]).collect();
    let shape = all[..kept].to_vec();
    let mut data = vec![0.0; shape.iter().product()];
    for flat in 0..all.iter().product() {
        let index = unravel(flat, &all);
        let product: f64 = inputs
            .iter()
            .zip(operands)
            .map(|(own, operand)| {
                let at: Vec<usize> =
                    own.iter().map(|name| index[names.iter().position(|n| n == name).unwrap()]).collect();
                operand.at(&at)
            })
            .product();
        data[ravel(&index[..kept], &shape)] += product;
    }
    Array::new(shape, data)
}

#[test]
fn sums_of_products_by_name() {
    let cases: &[(&str, &[&[usize]])] = &[
        ("ij,jk->ik", &[&[3, 4], &[4, 5]]),
        ("ij,kj->ki", &[&[3, 4], &[5, 4]]),
        ("bij,bjk->bik", &[&[2, 3, 4], &[2, 4, 5]]),
        ("bhqd,bhkd->bhqk", &[&[2, 2, 3, 4], &[2, 2, 5, 4]]),
        ("i,j->ij", &[&[3], &[4]]),
        ("i,i->i", &[&[3], &[3]]),
        ("i,i->", &[&[3], &[3]]),
        ("ij->ji", &[&[3, 4]]),
        ("ijk->j", &[&[2, 3, 4]]),
        ("ij->", &[&[3, 4]]),
        ("ii->i", &[&[4, 4]]),
        ("iji->j", &[&[3, 2, 3]]),
        ("iii->", &[&[3, 3, 3]]),
        ("ab,c->b", &[&[2, 3], &[4]]),
        ("ij,jk,kl->il", &[&[2, 3], &[3, 4], &[4, 5]]),
        ("bi,oij,bj->bo", &[&[2, 3], &[4, 3, 5], &[2, 5]]),
        ("ij,jk->ik", &[&[3, 0], &[0, 5]]),
        (",i->i", &[&[], &[3]]),
    ];
    for device in devices() {
        for (at, (equation, shapes)) in cases.iter().enumerate() {
            let operands: Vec<Array> = (0..)
                .zip(*shapes)
                .map(|(seed, shape)| Array::random(shape.to_vec(), seed + 10 * at as u64, -2.0, 2.0))
                .collect();
            let tensors: Vec<Tensor> = operands.iter().map(|operand| operand.to_tensor(&device)).collect();
            let got = Tensor::einsum(equation, &tensors.iter().collect::<Vec<_>>()).unwrap();
            // At most 15 products of up to three numbers up to 2, summed in some order: 15 additions and two products round
            // numbers below 15 · 8.
            assert_within(equation, &got, &reference(equation, &operands), |_| 17.0 * 120.0 * EPS);
        }
    }
}

#[test]
fn letters_that_occur_once_are_the_result_s() {
    for device in devices() {
        let (a, b) = (Array::random([2, 3], 1, -1.0, 1.0), Array::random([3, 4], 2, -1.0, 1.0));
        let (a, b) = (a.to_tensor(&device), b.to_tensor(&device));
        let same = |short: &str, long: &str, operands: &[&Tensor]| {
            let [short, long] = [short, long].map(|e| Tensor::einsum(e, operands).unwrap());
            assert_eq!((short.shape(), short.to_vec()), (long.shape(), long.to_vec()));
        };
        same("ij,jk", "ij,jk->ik", &[&a, &b]);
        same("ba", "ba->ab", &[&a]);
        same(" i j , j k -> k i ", "ij,jk->ki", &[&a, &b]);
    }
}

#[test]
fn gradients_and_values_outside_a_diagonal() {
    for device in devices() {
        let a = Array::random([2, 3, 3], 1, -1.0, 1.0).to_tensor(&device).requires_grad().unwrap();
        let b = Array::random([3, 2], 2, -1.0, 1.0).to_tensor(&device).requires_grad().unwrap();
        // Of Σ a[n, i, i] b[i, n]: b on the diagonals of a, and these diagonals for b.
        let gradients = Tensor::einsum("nii,in->", &[&a, &b]).unwrap().backward().unwrap();
        let (da, db) =
            (gradients.get(&a).unwrap().to_vec().unwrap(), gradients.get(&b).unwrap().to_vec().unwrap());
        let (a, b) = (a.to_vec().unwrap(), b.to_vec().unwrap());
        for n in 0..2 {
            for i in 0..3 {
                assert_eq!(db[2 * i + n], a[9 * n + 4 * i]);
                for j in 0..3 {
                    assert_eq!(da[9 * n + 3 * i + j], if i == j { b[2 * i + n] } else { 0.0 });
                }
            }
        }
        let wild = Tensor::from_slice(&[1.0, f32::NAN, f32::INFINITY, 2.0], [2, 2], &device).unwrap();
        assert_eq!(Tensor::einsum("ii->i", &[&wild]).unwrap().to_vec().unwrap(), [1.0, 2.0]);
    }
}

#[test]
fn equations_that_do_not_fit_are_refused() {
    let device = device();
    let (a, b) = (Tensor::ones([2, 3], &device).unwrap(), Tensor::ones([4, 5], &device).unwrap());
    let refused = |equation: &str, operands: &[&Tensor], text: &str| {
        let error = Tensor::einsum(equation, operands).unwrap_err().to_string();
        assert!(error.contains("einsum") && error.contains(text), "{error}");
    };
    refused("ij,jk->ik", &[&a, &b], "the axis j has lengths 3 and 4");
    refused("ij,jk->ik", &[&a], "operands given: 1");
    refused("ijk->i", &[&a], "3 letters for shape [2, 3]");
    refused("ij->k", &[&a], "'k' is in no operand");
    refused("ij->ii", &[&a], "appears twice");
    refused("...j->j", &[&a], "'.' is not the name of an axis");
    refused("i1->i", &[&a], "'1'");
    refused("", &[], "operands given: 0");
    let ids = Tensor::from_ids(&[1, 2], [2], &device).unwrap();
    assert!(Tensor::einsum("i,i->", &[&ids, &ids]).is_err());
}
