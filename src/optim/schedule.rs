//! Learning-rate schedules.

use std::f64::consts::PI;

/// A learning rate as a function of the step, counted from 0.
///
/// ```
/// use gristmill::optim::Schedule;
/// let schedule = Schedule::step(0.1, 30, 0.5).warm_up(10);
/// assert_eq!([0, 9, 10, 39, 40].map(|step| schedule.lr_at(step)), [0.01, 0.1, 0.1, 0.1, 0.05]);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Schedule {
    /// A constant learning rate.
    Constant {
        /// The learning rate.
        lr: f32,
    },
    /// `lr * factor^(step / every)`, with the quotient rounded down.
    Step {
        /// The initial learning rate.
        lr: f32,
        /// Steps between changes; 0 for no changes.
        every: u64,
        /// The factor of each change.
        factor: f32,
    },
    /// Half a cosine from `lr` at step 0 to `floor` at step `steps`, then `floor`: Loshchilov & Hutter,
    /// [arXiv:1608.03983](https://arxiv.org/abs/1608.03983), equation 5, without restarts.
    Cosine {
        /// The initial learning rate.
        lr: f32,
        /// The final learning rate.
        floor: f32,
        /// Steps from `lr` to `floor`.
        steps: u64,
    },
    /// Linear warm-up to the initial learning rate of another schedule, which starts after it. Step `k` has
    /// `(k + 1) / steps` of that rate. Goyal et al., [arXiv:1706.02677](https://arxiv.org/abs/1706.02677), section 2.2.
    WarmUp {
        /// Steps of the warm-up.
        steps: u64,
        /// The schedule after the warm-up.
        then: Box<Schedule>,
    },
}

impl Schedule {
    /// [`Schedule::Constant`].
    ///
    /// ```
    /// # use gristmill::optim::Schedule;
    /// let schedule = Schedule::constant(0.1);
    /// assert_eq!([0, 1000].map(|step| schedule.lr_at(step)), [0.1, 0.1]);
    /// ```
    pub fn constant(lr: f32) -> Schedule {
        Schedule::Constant { lr }
    }

    /// [`Schedule::Step`].
    pub fn step(lr: f32, every: u64, factor: f32) -> Schedule {
        Schedule::Step { lr, every, factor }
    }

    /// [`Schedule::Cosine`].
    ///
    /// ```
    /// # use gristmill::optim::Schedule;
    /// let schedule = Schedule::cosine(0.1, 0.0, 200);
    /// assert_eq!([0, 100, 200, 300].map(|step| schedule.lr_at(step)), [0.1, 0.05, 0.0, 0.0]);
    /// ```
    pub fn cosine(lr: f32, floor: f32, steps: u64) -> Schedule {
        Schedule::Cosine { lr, floor, steps }
    }

    /// This schedule after `steps` steps of warm-up: [`Schedule::WarmUp`].
    pub fn warm_up(self, steps: u64) -> Schedule {
        Schedule::WarmUp { steps, then: Box::new(self) }
    }

    /// The learning rate of step `step`; the first step is 0.
    pub fn lr_at(&self, step: u64) -> f32 {
        match self {
            Schedule::Constant { lr } => *lr,
            Schedule::Step { lr, every, factor } => {
                let changes = step.checked_div(*every).unwrap_or(0);
                (f64::from(*lr) * f64::from(*factor).powf(changes as f64)) as f32
            }
            Schedule::Cosine { floor, steps, .. } if step >= *steps => *floor,
            Schedule::Cosine { lr, floor, steps } => {
                let (lr, floor) = (f64::from(*lr), f64::from(*floor));
                let angle = PI * step as f64 / *steps as f64;
                (floor + (lr - floor) * 0.5 * (1.0 + angle.cos())) as f32
            }
            Schedule::WarmUp { steps, then } if step >= *steps => then.lr_at(step - steps),
            Schedule::WarmUp { steps, then } => {
                (f64::from(then.lr_at(0)) * (step + 1) as f64 / *steps as f64) as f32
            }
        }
    }
}
