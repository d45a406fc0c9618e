import { useEffect, useState } from "react";
import { load } from "zamba2-web";

/**
 * The model at `source`, or its progress or error. Under StrictMode, React runs the effect twice: the first load is
 * aborted, and the second one goes on.
 */
export function useModel(source) {
  const [state, setState] = useState({});
  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    let model;
    setState({});
    load({ source, weights: "q4", signal, onProgress: (progress) => !signal.aborted && setState({ progress }) }).then(
      (loaded) => {
        model = loaded;
        if (signal.aborted) model.dispose();
        else setState({ model });
      },
      (error) => !signal.aborted && setState({ error }),
    );
    return () => {
      controller.abort();
      model?.dispose();
    };
  }, [source]);
  return state;
}
