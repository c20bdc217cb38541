//! One test per behaviour and release.

/// Expands to a test for each behaviour, an `async fn(Release)` of the module, and each release, so that a
/// failure names both.
macro_rules! for_every_release {
    ($($behaviour:ident),* $(,)?) => {
        for_every_release!(@ latest Latest $($behaviour)*);
        for_every_release!(@ zed Zed $($behaviour)*);
        for_every_release!(@ ocata Ocata $($behaviour)*);
    };
    (@ $name:ident $release:ident $($behaviour:ident)*) => {
        mod $name {
            use crate::support::environment::Release;
            $(
                #[tokio::test]
                async fn $behaviour() {
                    if Release::$release.available() {
                        super::$behaviour(Release::$release).await;
                    }
                }
            )*
        }
    };
}

pub(crate) use for_every_release;
