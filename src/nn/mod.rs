//! Neural networks: parameters, layers, initialisation, losses, checkpoints.
//!
//! ```
//! use gristmill::nn::{Init, Layer, Linear, Module, Sequential, summary};
//! use gristmill::optim::{AdamW, Optimizer};
//! use gristmill::{Activation, Device, Tensor, nn};
//!
//! let device = Device::cpu();
//! let mut init = Init::new(42, &device);
//! let model = Sequential::new()
//!     .push(Linear::new(2, 16, &mut init)?.with_activation(Activation::Tanh))
//!     .push(Linear::new(16, 1, &mut init)?);
//! println!("{}", summary(&model, [4, 2])?);
//!
//! let x = Tensor::from_slice(&[0., 0., 0., 1., 1., 0., 1., 1.], [4, 2], &device)?;
//! let y = Tensor::from_slice(&[0., 1., 1., 0.], [4, 1], &device)?;
//! let mut optimizer = AdamW::new(model.parameters(), 0.05);
//! for _ in 0..200 {
//!     let loss = nn::mse_loss(&model.forward(&x)?, &y)?;
//!     optimizer.step(&loss.backward()?)?;
//! }
//! assert!(nn::mse_loss(&model.forward(&x)?, &y)?.item()? < 0.05);
//! # Ok::<(), gristmill::Error>(())
//! ```

mod attention;
mod checkpoint;
mod init;
mod layers;
mod loss;
mod module;
mod norm;
mod parameter;
mod recurrent;
mod rotary;
mod sampling;
mod sequential;
mod summary;
mod transformer;
mod vision;

pub use attention::{KvCache, MultiHeadAttention, MultiHeadOptions};
pub use checkpoint::{
    LoadOptions, LoadReport, hash_parameters, load_parameters, load_parameters_with, load_state_dict,
    save_parameters, save_parameters_with,
};
pub(crate) use checkpoint::{fitting, set_all};
pub use init::{Init, Scheme};
pub use layers::{
    Dropout, Elu, Embedding, Flatten, Gelu, Hardswish, LeakyRelu, Linear, Relu, Sigmoid, Silu, Softplus, Tanh,
};
pub use loss::{
    Loss, Reduction, bce_with_logits_loss, hinge_loss, huber_loss, kl_div_loss, l1_loss, mse_loss,
};
pub use module::{Layer, Mode, Module, Part, Parts};
pub use norm::{BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RmsNorm};
pub use parameter::{Frozen, Parameter};
pub use recurrent::{Gru, Lstm, LstmState, RecurrentOptions, Rnn};
pub use rotary::Rotary;
pub use sampling::Sampling;
pub use sequential::Sequential;
pub use summary::{Row, Summary, summary, summary_with};
pub use transformer::{
    BlockCache, BlockNorm, BlockOptions, FeedForward, Memory, TransformerBlock, TransformerDecoder,
    TransformerEncoder,
};
pub use vision::{AdaptiveAvgPool2d, AvgPool2d, Conv1d, Conv2d, ConvTranspose2d, MaxPool2d, Upsample};
