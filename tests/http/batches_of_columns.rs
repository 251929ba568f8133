//! Functions over columns: the rows of a key, together.

use crate::harness::Service;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde_json::{Value, json};
use std::sync::Arc;
use stormwheel::function::{Context, KeyedBatchFunction, Result};
use stormwheel_server::Server;

/// Emits how many rows came, and the sum of all so far.
struct Total;

impl KeyedBatchFunction for Total {
    type State = i64;
    type Output = (usize, i64);

    fn schema(&self) -> SchemaRef {
        let column = |name, nullable| Field::new(name, DataType::Int64, nullable);
        Arc::new(Schema::new(vec![column("n", false), column("timestamp", true)]))
    }

    fn process_batch(
        &mut self,
        batch: &RecordBatch,
        sum: &mut i64,
        ctx: &mut Context<Self::Output>,
    ) -> Result<()> {
        *sum += batch.column(0).as_primitive::<Int64Type>().values().iter().sum::<i64>();
        ctx.emit((batch.num_rows(), *sum));
        Ok(())
    }
}

fn stream() -> Vec<u8> {
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a", "a"]));
    let times: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 9, 3]));
    let n: ArrayRef = Arc::new(Int64Array::from(vec![1, 10, 2, 4]));
    let columns = [("key", keys), ("timestamp", times), ("n", n)];
    let records = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), records.schema_ref()).unwrap();
    writer.write(&records).unwrap();
    writer.into_inner().unwrap()
}

async fn send(service: &Service, query: &str) -> Value {
    let arrow = [("content-type", "application/vnd.apache.arrow.stream")];
    let path = format!("/v1/namespaces/m/elements{query}");
    service.call_with("POST", &path, &arrow, stream()).await.expect(200).json()
}

#[tokio::test]
async fn rows_of_a_key_reach_the_function_together_where_the_sender_says_so() {
    let builder = Server::builder().batch_operator("total", || Total);
    let service = Service::start_built(builder, |_| {}).await;
    service
        .put("/v1/namespaces/m", r#"{"operator":"total","on_error":{"retry":0,"then":"skip"}}"#)
        .await
        .expect(201);

    let summary = send(&service, "?group=key").await;
    assert_eq!((&summary["rows"], &summary["results"]), (&json!(2), &json!({"processed": 2})));
    service.watermark("s", 0).await;
    assert_eq!(service.values("").await, ["a @9 [3,7]", "b @2 [1,10]"]);

    let summary = send(&service, "").await;
    assert_eq!(summary["results"], json!({"processed": 4}), "each row is an element: {summary}");
    let lines = "{\"key\":\"b\",\"timestamp\":20,\"value\":[{\"n\":1},{\"n\":2}]}\n\
                 {\"key\":\"b\",\"timestamp\":21,\"value\":{\"m\":1}}";
    let summary = service.elements("", lines).await.expect(200).json();
    assert_eq!(summary["errors"][0]["error"]["type"], "/problems/function-failed");
    service.watermark("s", 1).await;
    let values = service.values("&tag=").await;
    assert_eq!(values[3..4], ["a @3 [1,14]"]);
    assert_eq!(values[5..], ["b @2 [1,20]", "b @20 [2,23]"]);
    let errors = service.values("&tag=errors").await;
    assert!(errors[0].contains("row 0 has no `n`"), "{errors:?}");

    let answer = service.elements("?group=key", lines).await;
    answer.expect_problem(400, "invalid-query");
    service.elements("?group=row", lines).await.expect_problem(400, "invalid-query");
}
