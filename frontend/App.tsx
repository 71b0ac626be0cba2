import { domAnimation, LazyMotion, MotionConfig } from "motion/react";
import { DeepfakeDetector } from "./components/DeepfakeDetector";

/** The page. With `simulate` the pipeline's animation runs alone, labelled as a demonstration and without a verdict. */
export function App() {
  return (
    <LazyMotion features={domAnimation} strict>
      <MotionConfig reducedMotion="user">
        <DeepfakeDetector simulate={false} />
      </MotionConfig>
    </LazyMotion>
  );
}
