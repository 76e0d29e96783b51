//! What each protocol carries: for the page at `/`, and for the documentation. A protocol is a file beside this one, its tests and its
//! row here.

use std::fmt::Write;

/// A protocol that clients may speak.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// What its users call it.
    pub name: &'static str,
    /// Where it is: the beginnings of its paths, or the name of its service.
    pub at: &'static str,
    /// Each feature, and whether it is carried.
    pub features: &'static [(&'static str, Carried)],
}

/// Whether a feature of a protocol is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// As the protocol says.
    Works,
    /// As this says, where a protocol leaves it open or a function is something else than a model.
    As(&'static str),
    /// Not at all, for this reason.
    Not(&'static str),
}

use Carried::{As, Not, Works};

/// All protocols.
pub const PROTOCOLS: &[Protocol] = &[
    Protocol {
        name: "Open Inference Protocol, REST",
        at: "/v2",
        features: &[
            ("server and model: live, ready, metadata", Works),
            ("configuration of a model", As("what the manifest and the signature tell")),
            ("inference with tensors in JSON, flat or nested", Works),
            ("binary tensor data, both ways and beside JSON", Works),
            ("`id`, `parameters`, requested outputs", As("parameters that mean nothing here are passed over")),
            ("classification", As("labels are those of the bundle")),
            ("gzip and deflate, both ways", Works),
            ("versions", As("the number of the current revision, or the version that the bundle declares")),
            ("statistics", As("since the host has started; times of reading and writing tensors are not apart")),
            ("model repository: index", Works),
            (
                "model repository: load and unload",
                As("with `torpor serve --model-control`: to wake and keep awake, and to zero"),
            ),
            ("trace and log settings", As("told; the operator changes them")),
            ("shared memory", Not("callers share none with the host")),
            ("sequences, generate", Not("functions keep no state between calls; `wasi:http` functions stream")),
        ],
    },
    Protocol {
        name: "Open Inference Protocol, gRPC",
        at: "inference.GRPCInferenceService",
        features: &[
            ("server and model: live, ready, metadata, configuration", Works),
            ("inference with raw and with typed contents", As("answers are raw")),
            ("streams of inferences", As("answers come in the order of their requests; one that fails, fails alone")),
            ("classification, statistics, model repository, settings", As("as over REST")),
            ("deadlines (`grpc-timeout`), cancelling, gzip and deflate", Works),
            ("shared memory", Not("callers share none with the host")),
        ],
    },
    Protocol {
        name: "gRPC",
        at: "grpc.health.v1.Health, grpc.reflection.v1.ServerReflection",
        features: &[
            ("health: of the host, and of each model by its name", Works),
            ("reflection, version 1 and `v1alpha`", Works),
            ("TLS", Not("the listeners speak HTTP without it")),
        ],
    },
    Protocol {
        name: "TensorFlow Serving, REST",
        at: "/v1/models",
        features: &[
            ("status", As("of the current revision, which is the only version")),
            ("metadata", As("one signature, `serving_default`")),
            ("`:predict` in rows (`instances`) and columns (`inputs`)", Works),
            (
                "bytes as `{\"b64\": …}`, and outputs named `…_bytes`",
                As("outputs that are no text, too, whatever their names"),
            ),
            ("`/versions/N`", As("the number of the current revision, or the version that the bundle declares")),
            ("`/labels/L`", As("the version that the bundle declares")),
            (
                "`:classify`",
                As(
                    "one output of floats; its classes are an output of texts, or the labels in the bundle, or numbered",
                ),
            ),
            ("`:regress`", As("one output, a number for each example")),
            ("examples and context", As("an input for each feature")),
            ("the tokens `NaN` and `Infinity`", Not("they are no JSON; outputs have `null` in their place")),
        ],
    },
    Protocol {
        name: "TensorFlow Serving, gRPC",
        at: "tensorflow.serving.PredictionService, tensorflow.serving.ModelService",
        features: &[
            ("`Predict`", As("tensors as `tensor_content` and as typed values")),
            ("`GetModelMetadata`", As("one signature, `serving_default`")),
            ("`GetModelStatus`", As("of the current revision, which is the only version")),
            ("`Classify`, `Regress`, `MultiInference`", Not("`Predict` says the same; over REST they are offered")),
            ("`ReloadConfig`", Not("the operator deploys functions, by manifests")),
        ],
    },
    Protocol {
        name: "KServe V1",
        at: "/v1/models",
        features: &[
            ("list of models", As("one object, which is also OpenAI's list")),
            ("ready", As("one object, which is also TensorFlow Serving's status")),
            ("`:predict`", Works),
            ("`:explain`", Not("functions give no explanations")),
            ("CloudEvents", Not("a body is the protocol's own JSON")),
        ],
    },
    Protocol {
        name: "TorchServe, REST",
        at: "/ping, /predictions, /models",
        features: &[
            ("`/ping`", Works),
            ("`/predictions/NAME` and `/predictions/NAME/VERSION`, POST and PUT", Works),
            ("a raw body", As("for a function with one input of `BYTES`; else it must be JSON")),
            ("forms", As("the part `data` or `body` is the only input, and others are the inputs of their names")),
            ("answers", As("one text or one string of bytes as it is, else JSON")),
            ("`GET /models` and `/models/NAME`", Works),
            ("registering, scaling and removing models", Not("the operator deploys functions, by manifests")),
            ("`/explanations`", Not("functions give no explanations")),
            ("API descriptions (`OPTIONS /`)", Not("`/` lists the protocols")),
            ("streamed predictions", Not("the inference trigger answers with whole tensors")),
        ],
    },
    Protocol {
        name: "MLflow scoring",
        at: "/invocations, /ping, /health, /version",
        features: &[
            (
                "`dataframe_split`, `dataframe_records`, `text/csv`",
                As("one input of rank 2 takes all columns; else inputs take theirs"),
            ),
            ("`instances` and `inputs`", Works),
            ("`params`", As("each gives the input of its name one value; others are refused")),
            (
                "no model in the path",
                As("the only function, that of `--default-model`, or `X-Amzn-SageMaker-Target-Model`"),
            ),
            ("missing values (`null`, empty cells)", Not("a tensor has no word for them")),
            (
                "chat, completions (`messages`, `prompt`)",
                Not("functions take tensors; for embeddings see `/v1/embeddings`"),
            ),
        ],
    },
    Protocol {
        name: "SageMaker containers",
        at: "/ping, /invocations, /models/NAME/invoke",
        features: &[
            (
                "`/ping` and `/invocations`",
                As("bodies are MLflow's; `text/csv; header=absent` has no first line of names"),
            ),
            ("custom attributes", Works),
            ("many models in one host: listing and invoking", Works),
            (
                "many models in one host: loading and unloading",
                Not("functions wake when they are called, and sleep when they are not"),
            ),
        ],
    },
    Protocol {
        name: "OpenAI",
        at: "/v1/embeddings, /v1/models",
        features: &[
            ("embeddings of a text or of several", As("by functions whose bundle has `task = \"embedding\"`")),
            ("`encoding_format` `float` and `base64`", Works),
            ("`dimensions`", As("refused, unless it is what the model has")),
            ("`usage`", As("always 0: functions do not tell how many tokens a text has")),
            ("tokens as input", Not("each model has tokens of its own")),
            ("list of models, and one of them", As("of functions that give embeddings")),
            ("chat, completions and the rest", Not("functions take tensors and give tensors")),
        ],
    },
];

/// The page at `/`: all protocols, as text.
pub(crate) fn page() -> String {
    let mut text =
        String::from("This is Torpor. Its functions answer over these protocols, and at paths of their own.\n");
    for Protocol { name, at, features } in PROTOCOLS {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{name}: {at}\n");
        for (feature, carried) in *features {
            let _ = match carried {
                Works => writeln!(text, "  {feature}"),
                As(how) => writeln!(text, "  {feature}: {how}"),
                Not(why) => writeln!(text, "  not {feature}: {why}"),
            };
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_protocol_once() {
        let page = page();
        for (index, Protocol { name, features, .. }) in PROTOCOLS.iter().enumerate() {
            assert_eq!(page.matches(&format!("\n{name}: ")).count(), 1, "{name}");
            assert!(PROTOCOLS[index + 1..].iter().all(|other| other.name != *name) && !features.is_empty(), "{name}");
        }
    }

    #[test]
    fn the_documentation_has_every_feature() {
        let features = PROTOCOLS.iter().flat_map(|protocol| {
            protocol.features.iter().map(move |feature| (format!("{} (`{}`)", protocol.name, protocol.at), feature))
        });
        for (order, (protocol, (feature, carried))) in features.enumerate() {
            let here = match carried {
                Works => "works".to_owned(),
                As(how) => format!("works: {how}"),
                Not(why) => format!("not offered: {why}"),
            };
            torpor_evidence::seen("protocols", order, [&protocol, feature, &here]);
        }
    }
}
