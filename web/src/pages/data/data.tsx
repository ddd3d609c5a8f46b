// Data: the files of the workspace, or one of them.
import { usePlace } from "../../router";
import "./data.css";
import { FilePage } from "./file";
import { FileList } from "./list";

export default function DataPage() {
  const { parts } = usePlace();
  return parts[1] ? <FilePage key={parts[1]} name={parts[1]} /> : <FileList />;
}
